"""The seccomp filter, run by a small machine of our own for both processors, and its calls next to the kernel's headers."""

from __future__ import annotations

import errno
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.sandbox import Tier, lockdown, probe

# aarch64 has the kernel's generic table, which every Linux header package carries
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
ALLOW, KILL = 0x7FFF0000, 0x80000000
CALLS = {**lockdown._CALLS, **lockdown._LOOKUPS, "open": lockdown._OPEN, "openat": lockdown._OPENAT, "fcntl": lockdown._FCNTL,
         "ioctl": lockdown._IOCTL}  # fmt: skip
MUST_BE_REFUSED = (
    "clone clone3 fork vfork execve execveat kill tkill tgkill rt_sigqueueinfo pidfd_open pidfd_send_signal pidfd_getfd ptrace "
    "process_vm_readv process_vm_writev socket socketpair connect sendto sendmsg sendmmsg recvmsg bind io_uring_setup "
    "io_uring_enter userfaultfd memfd_create memfd_secret bpf perf_event_open unshare setns mount umount2 pivot_root chroot "
    "chmod fchmod fchmodat chown fchownat unlink unlinkat rename renameat2 mkdir mkdirat symlink symlinkat link linkat truncate "
    "ftruncate utimensat setxattr openat2 open_by_handle_at creat mknod mknodat prlimit64 setrlimit prctl seccomp setsid setuid "
    "setresuid capset keyctl add_key request_key init_module finit_module kexec_load reboot ioperm iopl personality "
    "arch_prctl shmget shmat msgget semget mq_open inotify_init1 fanotify_init timer_create eventfd2 signalfd4 epoll_create1 "
    "name_to_handle_at move_mount open_tree fsopen landlock_create_ruleset landlock_restrict_self process_madvise waitid wait4"
).split()


def _table(machine):
    path = Path(HEADERS[machine])
    if not path.exists():
        pytest.skip(f"{path} is not here; it comes with linux-libc-dev")
    found = dict(re.findall(r"#define (__NR(?:3264)?_\w+) (\w+)", path.read_text()))
    numbers = {}
    for name, value in found.items():
        while value in found:
            value = found[value]
        if value.isdigit():
            numbers[name.removeprefix("__NR_")] = int(value)
    return numbers


def _run(code, number, arch, arguments=(0,) * 6):
    """What the filter returns: the instructions of classic BPF that it is made of."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *arguments)
    place = accumulator = 0
    while place < len(code) // 8:  # it can only jump forward
        operation, yes, no, value = struct.unpack_from("=HBBI", code, 8 * place)
        place += 1
        if operation == 0x06:
            return value
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        else:
            test = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
            place += yes if test else no
    raise AssertionError("it ends without an answer")


@pytest.mark.parametrize("machine", HEADERS)
def test_the_table_is_the_kernels(machine):
    column, numbers = lockdown._ARCH[machine][0], _table(machine)
    assert {name: call[column] for name, call in CALLS.items()} == {name: numbers.get(name) for name in CALLS}
    for name, number in (("landlock_create_ruleset", 444), ("landlock_add_rule", 445), ("landlock_restrict_self", 446)):
        assert numbers[name] == number
    assert numbers["pivot_root"] == {"x86_64": 155, "aarch64": 41}[machine]


@pytest.mark.parametrize("machine", HEADERS)
@pytest.mark.parametrize("files", [True, False])
def test_every_number_is_allowed_or_refused_as_the_table_says(machine, files):
    column, arch = lockdown._ARCH[machine]
    code = lockdown.seccomp_filter(files=files, machine=machine)
    assert len(code) // 8 < 400
    known = {call[column]: name for name, call in CALLS.items() if call[column] is not None}
    for number in range(1000):
        name = known.get(number)
        if name is None:
            expected = 0x50000 | errno.EPERM
        elif name in lockdown._CALLS or (files and name in (*lockdown._LOOKUPS, "open", "openat")):
            expected = ALLOW
        elif name in ("fcntl", "ioctl"):
            expected = ALLOW if name == "fcntl" else 0x50000 | errno.ENOTTY
        else:
            expected = 0x50000 | errno.EACCES
        assert _run(code, number, arch) == expected, (number, name)


@pytest.mark.parametrize("machine", HEADERS)
def test_what_a_program_must_not_do_is_refused_by_name(machine):
    numbers, (_, arch) = _table(machine), lockdown._ARCH[machine]
    code = lockdown.seccomp_filter(files=True, machine=machine)
    there = [name for name in MUST_BE_REFUSED if name in numbers]
    assert len(there) > 70 and {_run(code, numbers[name], arch) for name in there} == {0x50000 | errno.EPERM}


@pytest.mark.parametrize("machine", HEADERS)
def test_files_are_opened_for_reading_only_and_descriptors_only_looked_at(machine):
    column, arch = lockdown._ARCH[machine]
    code = lockdown.seccomp_filter(files=True, machine=machine)

    def answer(call, place, value):
        return _run(code, call[column], arch, tuple(value if n == place else 0 for n in range(6)))

    for flags in (0, 0o2000000, 0o4000, 0o100000):  # O_RDONLY, O_CLOEXEC, O_NONBLOCK, O_LARGEFILE
        assert answer(lockdown._OPENAT, 2, flags) == ALLOW
    for flags in (1, 2, 0o100, 0o1000, 0o20000000, 0o2000001):  # write, create, truncate, O_TMPFILE's own bit
        assert answer(lockdown._OPENAT, 2, flags) == 0x50000 | errno.EACCES
    assert {command for command in range(2000) if answer(lockdown._FCNTL, 1, command) == ALLOW} == {0, 1, 2, 3, 1030}
    for request in (0x5401, 0x5451, 0x5412, 0x541B):  # what kind of terminal, close on exec; type into a terminal, bytes to read
        assert answer(lockdown._IOCTL, 1, request) == (ALLOW if request in (0x5401, 0x5451) else 0x50000 | errno.ENOTTY)


def test_another_table_of_calls_kills():
    code = lockdown.seccomp_filter(files=True, machine="x86_64")
    assert _run(code, 0, 0xC000003E) == ALLOW
    for number, arch in ((0, 0x40000003), (63, 0xC00000B7)):  # i386, aarch64
        assert _run(code, number, arch) == KILL
    for number in (0x40000000, 0x40000000 + 39, 2**32 - 1):  # x32
        assert _run(code, number, 0xC000003E) == KILL
    arm = lockdown.seccomp_filter(files=True, machine="aarch64")
    assert _run(arm, 63, 0xC00000B7) == ALLOW and _run(arm, 63, 0xC000003E) == KILL


def test_a_processor_without_a_table_is_refused():
    with pytest.raises(OSError, match="no table of system calls for riscv64"):
        lockdown.seccomp_filter(files=True, machine="riscv64")


# A process that sees a kernel without what is named, and says which tier is found there or why there is none.
_OLD_KERNEL = """
import struct, sys
from workbench.sandbox import Unavailable, best, lockdown
missing = {"Landlock": [(444, 38), (445, 38), (446, 38)], "namespaces": [(272, 1)], "seccomp": [(317, 38)]}
code = [(0x20, 0, 0, 0)]
if "seccomp" in sys.argv:
    code += [(0x15, 0, 4, 157), (0x20, 0, 0, 16), (0x15, 0, 1, 22), (6, 0, 0, 0x50000 | 22), (0x20, 0, 0, 0)]
for number, error in [pair for name in sys.argv[1:] for pair in missing[name]]:
    code += [(0x15, 0, 1, number), (6, 0, 0, 0x50000 | error)]
filter = lockdown.Filter(b"".join(struct.pack("=HBBI", *line) for line in [*code, (6, 0, 0, 0x7FFF0000)]))
lockdown.no_new_privileges()
assert lockdown._prctl(22, 2, filter.reference, 0, 0) == 0
try:
    print(best().name)
except Unavailable as error:
    print(error)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_a_kernel_that_lacks_a_layer_gets_the_next_tier_or_is_told_what_is_missing():
    if not probe(Tier.FULL).holds:
        pytest.skip(str(probe(Tier.FULL)))
    found = {}
    for missing in ("Landlock", "namespaces", "Landlock namespaces", "seccomp"):
        done = subprocess.run([sys.executable, "-c", _OLD_KERNEL, *missing.split()], capture_output=True, text=True, check=True)
        found[missing] = done.stdout.strip()
    assert found["seccomp"].count("no lock: seccomp: Invalid argument") == 4 and "Use Linux 5.13" in found.pop("seccomp")
    assert found == {"Landlock": "NAMESPACES", "namespaces": "CONTAINER", "Landlock namespaces": "NO_FILES"}
