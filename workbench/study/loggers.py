"""Metrics to elsewhere, for those who want them there: a logger is any function of (arm, seed, rows).

    compare(..., log=tensorboard("logs"))
    compare(..., log=lambda arm, seed, rows: ...)     # trackio, a database, a message to yourself
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workbench.study.cell import Row
from workbench.study.store import slug


def tensorboard(folder: str | Path) -> Callable[[str, int, list[Row]], None]:
    """A logger that writes each run as one TensorBoard run, `<folder>/<arm>/seed_<n>`.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ModuleNotFoundError('TensorBoard is not installed: pip install -c requirements.lock -e ".[test]"') from None

    def log(arm: str, seed: int, rows: list[Row]) -> None:
        with SummaryWriter(str(Path(folder) / slug(arm) / f"seed_{seed}")) as writer:
            for row in rows:
                for name, value in row.items():
                    if name != "step":
                        writer.add_scalar(name, value, row["step"])

    return log
