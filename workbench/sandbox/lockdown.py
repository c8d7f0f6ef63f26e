"""Locking a process down with what Linux offers to everybody: resource limits, Landlock, seccomp, namespaces.

Loaded alone inside the sandbox's processes, so it imports nothing of the package. The kernel is called through ctypes: the
bindings on PyPI need a libseccomp that small images lack (pyseccomp), or are unfinished (landlock 1.0.0.dev5), and what is
needed here is short. Numbers are those of the kernel's headers for x86-64 and aarch64; on any other machine seccomp raises.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
import sys

_libc = ctypes.CDLL(None, use_errno=True)
_prctl, _syscall = _libc.prctl, _libc.syscall

# name: (x86-64, aarch64); None where the machine has no such call
_CALLS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "sched_yield": (24, 124),
    "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23), "nanosleep": (35, 101), "getpid": (39, 172), "exit": (60, 93),
    "uname": (63, 160), "getcwd": (79, 17), "gettimeofday": (96, 169), "getrusage": (98, 165), "sysinfo": (99, 179),
    "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177),
    "getppid": (110, 173), "sigaltstack": (131, 132), "gettid": (186, 178), "time": (201, None), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "set_tid_address": (218, 96), "restart_syscall": (219, 128),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94),
    "poll": (7, None), "ppoll": (271, 73), "set_robust_list": (273, 99), "getrandom": (318, 278), "membarrier": (324, 283),
    "rseq": (334, 293),
}  # fmt: skip
_LOOKUPS: dict[str, tuple[int | None, int | None]] = {  # what a path may be looked up with
    "stat": (4, None), "lstat": (6, None), "access": (21, None), "readlink": (89, None), "newfstatat": (262, 79),
    "readlinkat": (267, 78), "faccessat": (269, 48), "statx": (332, 291), "faccessat2": (439, 439),
}  # fmt: skip
_OPEN, _OPENAT, _FCNTL, _IOCTL = (2, None), (257, 56), (72, 25), (16, 29)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0o20000000  # the last is O_TMPFILE
_FCNTLS = (0, 1, 2, 3, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_IOCTLS = (0x5401, 0x5413, 0x5451)  # TCGETS, TIOCGWINSZ, FIOCLEX
_ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000

_KILL, _ALLOW = 0x80000000, 0x7FFF0000  # SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW
_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, |JGE|K, |JSET|K, BPF_RET|K


def _refuse(error: int) -> int:
    return 0x00050000 | error  # SECCOMP_RET_ERRNO


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def reason(error: BaseException) -> str:
    """What went wrong, without the number of it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return f"{type(error).__name__}: {error}"


# ---- seccomp ----------------------------------------------------------------------------------------------------------

_Code = list[tuple[int, int, int, int]]


def seccomp_filter(*, files: bool, machine: str = os.uname().machine) -> bytes:
    """A BPF program that allows what plain computing needs and refuses the rest with an error.

    A call from another architecture's table kills the process. No fork, no exec, no socket, no signal to anybody, no
    thread; files may be opened for reading, or, with `files` False, not even looked up. The number of a call is found by
    halving: the kernel runs the filter for every number there is when it is installed, which is once per program.

    Raises:
        OSError: for a processor whose table of calls is not here.
    """
    if machine not in _ARCH:
        raise OSError(errno.ENOSYS, f"no table of system calls for {machine}")
    column, arch = _ARCH[machine]
    allow, refuse, deny = [(_RET, 0, 0, _ALLOW)], [(_RET, 0, 0, _refuse(errno.EPERM))], [(_RET, 0, 0, _refuse(errno.EACCES))]
    actions = [(call, allow) for call in _CALLS.values()]
    actions += [(call, allow if files else deny) for call in _LOOKUPS.values()]
    for call, argument in ((_OPEN, 1), (_OPENAT, 2)):
        reading = [(_LOAD, 0, 0, 16 + 8 * argument), (_JSET, 0, 1, _WRITING), *deny, *allow]
        actions.append((call, reading if files else deny))
    for call, values, error in ((_FCNTL, _FCNTLS, errno.EPERM), (_IOCTL, _IOCTLS, errno.ENOTTY)):
        tests = [(_JEQ, len(values) - n, 0, value) for n, value in enumerate(values)]
        actions.append((call, [(_LOAD, 0, 0, 24), *tests, (_RET, 0, 0, _refuse(error)), *allow]))
    of = {number: action for call, action in actions if (number := call[column]) is not None}
    edges: list[tuple[int, _Code]] = []  # from this number on, that action
    for number in sorted({0, *of, *(number + 1 for number in of)}):
        action = of.get(number, refuse)
        if not edges or edges[-1][1] != action:
            edges.append((number, action))
    if machine == "x86_64":
        edges.append((_X32, [(_RET, 0, 0, _KILL)]))
    start = [(_LOAD, 0, 0, 4), (_JEQ, 1, 0, arch), (_RET, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in start + _halved(edges))


def _halved(edges: list[tuple[int, _Code]]) -> _Code:
    """Code that finds the last edge not above the number of the call, and does what it says."""
    if len(edges) == 1:
        return edges[0][1]
    middle = len(edges) // 2
    below, above = _halved(edges[:middle]), _halved(edges[middle:])
    if len(below) > 255:
        raise ValueError("a jump of more than 255 instructions")
    return [(_JGE, len(below), 0, edges[middle][0]), *below, *above]


class Filter(ctypes.Structure):
    """A BPF program as the kernel takes it."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    def __init__(self, code: bytes) -> None:
        super().__init__(len(code) // 8, code)
        self.reference = ctypes.byref(self)


# ---- Landlock -----------------------------------------------------------------------------------------------------------


def landlock_version() -> int:
    """The kernel's Landlock version; 0 if it has none."""
    return max(0, _syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def landlock_rules(readable: list[str]) -> int:
    """A descriptor of rules under which only `readable` folders can be read, and nothing written, run or connected to.

    Raises:
        OSError: a kernel without Landlock.
    """
    version = landlock_version()
    if not version:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock")
    files = (1 << (13 + (version >= 2) + (version >= 3) + (version >= 5))) - 1
    attributes = struct.pack("=QQQ", files, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = _check(_syscall(444, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)), "Landlock")
    for path in readable:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", 1 << 2 | 1 << 3, folder)  # read a file, list a folder
        _check(_syscall(445, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0)), f"Landlock rule for {path}")
        os.close(folder)
    return rules


def readable_folders() -> list[str]:
    """What a program may read: Python's standard library, and the libraries of the system that its modules load."""
    found = {os.path.realpath(path) for path in (os.path.dirname(os.__file__), *sys.path) if os.path.isdir(path)}
    return sorted(found | {path for path in ("/lib", "/lib64", "/usr/lib", "/usr/lib64") if os.path.isdir(path)})


def reachable(path: str) -> bool:
    """Whether a process without rights, which root's descendants become, may get to `path`. Python may live in root's home."""
    folders = []
    while (path := os.path.dirname(path)) not in folders:
        folders.append(path)
    return os.geteuid() != 0 or all(os.stat(folder).st_mode & 0o001 for folder in folders)


# ---- the rest -----------------------------------------------------------------------------------------------------------


def no_new_privileges() -> None:
    """No program that is started may have more rights than this process: what the kernel asks for before it lets a process
    without rights lock itself down."""
    _check(_libc.prctl(38, 1, 0, 0, 0), "no_new_privs")


def hide_memory() -> None:
    """No other process of this user may read or trace this one."""
    _check(_libc.prctl(4, 0, 0, 0, 0), "dumpable")


def drop_rights() -> None:
    """Become nobody if root, and give up every capability."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    header, nothing = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _check(_libc.capset(header, nothing), "capabilities")


def limit_descendants() -> None:
    """Hard limits that this process can live with, and its children inherit: open files, no file written, no core."""
    for what, most in (
        (resource.RLIMIT_NOFILE, 32), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_MEMLOCK, 0)
    ):  # fmt: skip
        resource.setrlimit(what, (most, most))


def limits(cpu: float | None = None, memory: int | None = None) -> tuple:
    """What `lock` is to limit: address space, seconds of CPU (a backstop, in whole seconds), and no new process. Without
    arguments everything stays as it is."""
    most = (
        (resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, None if cpu is None else int(cpu) + 2),
        (resource.RLIMIT_NPROC, None if cpu is None else 0),
    )  # fmt: skip
    return tuple((what, resource.getrlimit(what) if value is None else (value, value)) for what, value in most)


def lock(limits: tuple, rules: int | None, program: Filter | None, death: int = 9) -> None:
    """Lock this process down for good, seccomp last; it needs `no_new_privileges`. To be called after the last change of user,
    which undoes what is said here about the parent.

    Args:
        limits: of resources, from `limits`. rules: of Landlock, from `landlock_rules`. program: for seccomp. death: the signal
            that this process gets when its parent ends.
    Raises:
        OSError: a layer that does not take hold.
    """
    try:  # noqa: SIM105 (contextlib is not worth the memory it writes, see `zygote`)
        os.setsid()
    except OSError:  # it leads a session already
        pass
    for what, most in limits:
        resource.setrlimit(what, most)
    failed = ""
    if _prctl(1, death, 0, 0, 0):  # PR_SET_PDEATHSIG
        failed = "parent death signal"
    if rules is not None and _syscall(446, rules, 0):  # landlock_restrict_self
        failed = "Landlock"
    if program is not None and _prctl(22, 2, program.reference, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        failed = "seccomp"
    if failed:
        _check(-1, failed)


_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000


def enter_namespaces(readable: list[str]) -> None:
    """Leave the machine's processes, network and files behind: the root becomes an empty folder in memory with `readable`
    mounted read-only. The caller must fork afterwards: the child is the first process of the new world.

    Raises:
        OSError: where it is not permitted, as in most containers.
    """
    user, group = os.geteuid(), os.getegid()
    spaces = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET | (0 if user == 0 else _NEWUSER)
    _check(_libc.unshare(spaces), "namespaces")
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _jail(readable)


def _jail(readable: list[str]) -> None:
    bind, remount, read_only, private, recursive, nosuid, nodev = 4096, 32, 1, 1 << 18, 16384, 2, 4
    root = "/tmp"  # only a place to mount on; in this mount namespace alone
    sources = [(path, os.open(path, os.O_PATH)) for path in readable]
    _mount(None, "/", None, private | recursive)
    _mount("tmpfs", root, "tmpfs", nosuid | nodev, "size=1m,mode=0755")
    for path, source in sources:
        place = root + path
        os.makedirs(place, exist_ok=True)
        _mount(f"/proc/self/fd/{source}", place, None, bind | recursive)
        _mount(None, place, None, bind | remount | read_only | nosuid | nodev)
        os.close(source)
    _mount(None, root, None, remount | read_only | nosuid | nodev)
    os.chdir(root)
    number = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
    _check(_syscall(number, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", 2), "umount")  # MNT_DETACH: the old root
    os.chdir("/")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"mount {target}")
