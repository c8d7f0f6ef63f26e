"""`workbench lab | doctor | course | recipes | train | runs | bench`.

Nothing heavy is imported before a command needs it, so that `workbench --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

START = "notebooks/00_start_here.ipynb"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 something is wrong, 2 wrong use."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["bench"]:  # it has options of its own
        from workbench import bench

        return bench.main(arguments[1:]) or 0
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except BrokenPipeError:  # `workbench recipes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ValueError, LookupError, ImportError, MemoryError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"workbench {options.command}: {message}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="workbench", description="Reinforcement learning in notebooks.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    lab = commands.add_parser("lab", help="open the notebooks in JupyterLab")
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    lab.add_argument("--port", type=int, default=8888, help="the next free one is taken if it is in use (default: 8888)")
    lab.set_defaults(run=_lab)

    doctor = commands.add_parser("doctor", help="what this machine has, and what each missing thing would enable")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.add_argument(
        "--model", metavar="NAME", help="say what training this model takes: a size such as 4b or 0.8m, a folder, or a name"
    )
    doctor.add_argument("--download", action="store_true", help="ask the Hub for the model's configuration")
    sizes: tuple[tuple[str, type, str], ...] = (
        ("--batch", int, "episodes in one pass on one GPU (default: 8)"),
        ("--context", int, "tokens of an episode (default: 1024)"),
        ("--prompt", int, "how many of them nobody samples (default: a quarter)"),
        ("--rollouts", int, "episodes in a step on one GPU (default: 128)"),
        ("--lora", int, "rank of adapters; else all is trained"),
        ("--bits", int, "4 for weights in 4 bits"), ("--dtype", str, "of the weights (default: bfloat16; float32 without a GPU)"),
        ("--gpus", int, "each holds a whole copy (default: 1)"), ("--engine", str, "local, or vllm in the same memory"),
        ("--trainer", str, "trl, or workbench for workbench.train"),
    )  # fmt: skip
    for option, kind, told in sizes:
        doctor.add_argument(option, type=kind, help=told)
    doctor.add_argument("--checkpointing", action="store_true", help="gradient checkpointing: less memory, a third more time")
    doctor.set_defaults(run=_doctor)

    course = commands.add_parser("course", help="build the notebooks from their masters, or check that they agree")
    course.add_argument("action", choices=["build", "check"])
    course.add_argument("--masters", type=Path, default=Path("notebooks/masters"), metavar="DIR")
    course.add_argument("--notebooks", type=Path, default=Path("notebooks"), metavar="DIR")
    course.set_defaults(run=_course)

    recipes = commands.add_parser("recipes", help="the family of methods, or one method as its difference from its parent")
    recipes.add_argument("name", nargs="?", help="e.g. gtpo")
    recipes.add_argument("--update", type=Path, metavar="FILE", help="write the table of methods between a file's gallery marks")
    recipes.set_defaults(run=_recipes)

    train = commands.add_parser(
        "train", help="train a model on a task with a recipe in TRL, here or under `accelerate launch`; asked again, it goes on"
    )
    train.add_argument("--model", required=True, help="a tiny size such as 0.8m, a folder, or a name on the Hub")
    train.add_argument("--task", required=True, help="such as calculator, or spoken: the same told in English, for real models")
    train.add_argument("--recipe", default="grpo", help="see `workbench recipes` (default: grpo)")
    train.add_argument("--steps", type=int, required=True, help="batches of rollouts")
    train.add_argument("--folder", type=Path, required=True, help="where checkpoints and the policy go")
    options: tuple[tuple[str, type, str], ...] = (
        ("--seed", int, "default: 0"), ("--prompts", int, "different ones in a step (default: 16)"),
        ("--accumulate", int, "passes that a minibatch is cut into, to save memory (default: 1)"),
        ("--lr", float, "default: 3e-4 for tiny models and adapters, else 1e-6"), ("--lora", int, "rank of adapters"),
        ("--bits", int, "4 for weights in 4 bits"), ("--dtype", str, "of the weights; default: as they were saved"),
        ("--chat-template", str, "append_only, chatml, or a file with a template"),
        ("--end-of-turn", str, "the token that ends a turn, where it is not the tokenizer's end"),
        ("--engine", str, "local, hugging_face, vllm, or the address of a vLLM server"),
        ("--checkpoint-every", int, "steps (default: 10)"), ("--push", str, "owner/name on the Hub to upload the policy to"),
    )  # fmt: skip
    for option, kind, told in options:
        train.add_argument(option, type=kind, help=told)
    train.add_argument("--checkpointing", action="store_true", help="gradient checkpointing: less memory, a third more time")
    train.add_argument("--download", action="store_true", help="ask the Hub for the model where it is not here yet")
    train.set_defaults(run=_train)

    runs = commands.add_parser("runs", help="the finished runs of all studies, or one study's summary")
    runs.add_argument("study", nargs="?", help="a folder of the store, or how its name begins")
    runs.add_argument("--store", type=Path, default=Path("runs"), metavar="DIR", help="the folder of studies (default: runs)")
    runs.add_argument("--csv", action="store_true", help="print every logged number, one line each")
    runs.set_defaults(run=_runs)

    commands.add_parser("bench", help="compare speed with what you would use otherwise", add_help=False)
    return parser


def checkout() -> Path:
    """The folder with the notebooks: the current one or one above it, else where the package is installed from.

    Raises:
        FileNotFoundError: if none of them has the notebooks.
    """
    from workbench.doctor import ROOT

    here = Path.cwd()
    for folder in (here, *here.parents, ROOT):
        if (folder / "notebooks").is_dir() and (folder / "workbench").is_dir():
            return folder
    raise FileNotFoundError(f"no notebooks in {here} or above; change to the folder that you cloned")


def lab_arguments(root: Path, token: str, *, port: int = 8888, browser: bool = True) -> list[str]:
    """JupyterLab's arguments: on loopback only, with a token, showing the first notebook."""
    arguments = [
        f"--ServerApp.root_dir={root}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.open_browser={browser}",
        f"--IdentityProvider.token={token}",
        f"--LabApp.default_url=/lab/tree/{START}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--ServerApp.allow_root=True")
    return arguments


def _lab(options: argparse.Namespace) -> int:
    root = checkout()
    if not (root / START).exists():
        raise FileNotFoundError(f"{START} is missing; generate it with `workbench course build`")
    if not 0 <= options.port < 65536:
        raise ValueError(f"--port must be from 0 to 65535, not {options.port}")
    try:
        from jupyterlab.labapp import LabApp
    except ImportError:
        raise FileNotFoundError('JupyterLab is not installed: pip install -c requirements.lock -e ".[lab]"') from None
    # In this process, not in a child: so the token is not among the arguments that other users of the machine can see.
    arguments = lab_arguments(root, secrets.token_hex(24), port=options.port, browser=not options.no_browser)
    server = LabApp.initialize_server(arguments)
    server.identity_provider.token_generated = True  # otherwise the address is printed without it
    server.web_app.settings["page_config_hook"] = _without_news
    server.start()
    return 0


def _without_news(handler: object, page: dict[str, Any]) -> dict[str, Any]:
    """JupyterLab's page without its question whether it may fetch news; there is no option for that."""
    plugin = "@jupyterlab/apputils-extension:announcements"
    page["disabledExtensions"] = [*page.get("disabledExtensions", ()), plugin]
    return page


def _doctor(options: argparse.Namespace) -> int:
    if options.model:
        return _fits(options)
    from workbench import doctor

    findings = doctor.examine()
    if options.json:
        import dataclasses
        import json

        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        print(doctor.report(findings))
    return int(any(finding.status == "problem" for finding in findings))


def _fits(options: argparse.Namespace) -> int:
    """Whether a model fits: 0 if it does, else 1."""
    import torch

    from workbench import fits

    names = ("context", "rollouts", "lora", "bits", "dtype", "gpus", "engine", "trainer", "prompt")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    given |= {"rows": options.batch} if options.batch is not None else {}
    given.setdefault("dtype", "bfloat16" if torch.cuda.is_available() or options.model.lower() in fits.SHAPES else "float32")
    given.setdefault("prompt", max(1, given.get("context", 1024) // 4))
    found = fits.report(options.model, fits.Plan(**given, checkpointing=options.checkpointing), download=options.download)
    if options.json:
        import json

        print(json.dumps(found, indent=2))
    else:
        print(fits.told(found))
    return int(not found["fits"])


def _course(options: argparse.Namespace) -> int:
    from workbench import course

    if options.action == "build":
        course.build(options.masters, options.notebooks)
        return 0
    differences = course.compare(options.masters, options.notebooks)
    for difference in differences:
        print(difference)
    return int(bool(differences))


def _recipes(options: argparse.Namespace) -> int:
    from workbench import recipes

    if options.update:
        text = options.update.read_text(encoding="utf-8")
        before, start, rest = text.partition("<!-- gallery -->\n")
        _, end, after = rest.partition("<!-- /gallery -->")
        if not start or not end:
            raise ValueError(f"{options.update} has no lines <!-- gallery --> and <!-- /gallery -->")
        options.update.write_text(f"{before}{start}{recipes.gallery()}\n{end}{after}", encoding="utf-8")
    elif options.name:
        print(recipes.describe(options.name))
    else:
        print("\n".join(_family(None, 0)))
    return 0


def _train(options: argparse.Namespace) -> int:
    """0 when it is finished, 130 when it was interrupted."""
    from workbench import scale

    given = {name: value for name, value in vars(options).items() if name not in ("command", "run") and value is not None}
    template = given.get("chat_template", "")
    if template not in ("", "append_only", "chatml"):
        given["chat_template"] = Path(template).read_text(encoding="utf-8")
    try:
        scale.run(given.pop("model"), given.pop("task"), given.pop("recipe"), **given)
    except KeyboardInterrupt as stopped:
        print(f"workbench train: {stopped or 'stopped at once'}", file=sys.stderr)
        return 130
    return 0


def _runs(options: argparse.Namespace) -> int:
    from workbench import study

    if options.study:
        found = [file.parent for file in sorted(options.store.glob("*/study.json")) if file.parent.name.startswith(options.study)]
        if len(found) != 1:
            there = ", ".join(folder.name for folder in found) or "none"
            raise ValueError(f"{options.study!r} should be the beginning of one study's name in {options.store}; it fits {there}")
        one = study.load(found[0])
        print(one.frame.to_csv(index=False) if options.csv else one.summary(), end="" if options.csv else "\n")
        return 0
    table = study.runs(options.store, rows=options.csv)
    if options.csv:
        print(table.to_csv(index=False), end="")
    else:
        print(study.listing(table))
    return 0


def _family(parent: str | None, depth: int) -> Iterator[str]:
    """One line for every method that descends from `parent`, indented by generation."""
    from workbench import recipes

    for name in recipes.names():
        recipe = recipes.get(name)
        if (recipe.parent.name if recipe.parent else None) == parent:
            paper = f", arXiv {recipe.arxiv}" if recipe.arxiv else ""
            yield f"{'  ' * depth + name:<30} {recipe.title}{paper}"
            yield from _family(name, depth + 1)


if __name__ == "__main__":
    sys.exit(main())
