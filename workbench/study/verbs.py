"""`compare` and `sweep`: any arms, on any task, over seeds; and `runs`: everything that was ever finished."""

from __future__ import annotations

import itertools
import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.study.adapters import Setting, check_function, function_name, is_function, setting_of
from workbench.study.cell import AXES, Arm, Budget, Row
from workbench.study.execute import BACKENDS, Backend, Event, Job, backend_of, execute, pack
from workbench.study.fingerprint import fingerprint
from workbench.study.machine import cores, made_with
from workbench.study.result import Study
from workbench.study.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from workbench.stats import Sequential

Log = Callable[[str, int, list[Row]], None]


def compare(
    arms: Sequence[Any] | Mapping[str, Any], task: Any = None, seeds: int | Iterable[int] = 8, *, budget: str | Budget,
    metric: str | None = None, better: str | None = None, stop: Sequential | None = None, name: str | None = None,
    store: str | Path | None = "runs", backend: str = "processes", workers: int | None = None, address: str | None = None,
    progress: bool = True, log: Log | None = None,
) -> Study:  # fmt: skip
    """Run every arm with every seed, once ever, and give back a `Study`.

        study = compare(["grpo", "gtpo"], "calculator", seeds=8, budget="100 updates")
        study.summary(); study.plot()

    Asked again, with more arms or seeds or after a kill at any moment, it makes only the runs that are missing: a finished
    run is known by the task, the budget, the arm's configuration and code, and the seed. Every arm gets the same seeds, so
    arms that use them for the same purposes are compared with common random numbers.

    Args:
        arms: a list, or a mapping from names. On a text task: recipes, by name or as objects, or `trained(recipe, lr=...)`; on
            a bandit: policies; on a causal world: imitators; on any, or on none (task=None): functions (seed, budget) that
            yield rows, as `workbench.study.cell` describes.
        task: a text task by name or object, or `text(...)` for its warm start and evaluation; a bandit problem; a causal world.
        seeds: how many (0, 1, ...), or which.
        budget: what each run may spend, such as "200 updates", "10_000 samples", "1e6 tokens" (generated), "60 seconds".
        metric: the one that decides (the task's own by default). better: "higher" or "lower".
        stop: looks at which the study may end early, e.g. `stats.Sequential((12, 18, 24))`; then `seeds` are the most.
        name: of the study's folder. store: the folder of all studies, or None to keep nothing.
        backend: "processes" (`workers` of them, one thread each; by default one a core), "in_process", or "ray" (`address` of
            the cluster). The results are the same to the bit, except under a budget in seconds.
        log: is given (arm, seed, rows) of each run that finishes, e.g. `tensorboard("logs")`.
    Raises:
        ValueError, TypeError: unknown arm, seeds that repeat, a metric nobody logs, a budget that makes no sense here: before
            anything runs where it can be known then.
        OSError: the store cannot be written. KeyboardInterrupt: what is finished is kept.
    """
    setting, budget, chosen = setting_of(task), Budget.of(budget), _seeds(seeds)
    if budget.unit not in setting.units:
        raise ValueError(f"a budget on {setting.name} is in {', '.join(setting.units)}, not in {budget.unit}")
    better = better or setting.better
    if better not in ("higher", "lower"):
        raise ValueError(f"better must be 'higher' or 'lower', not {better!r}")
    _check_backend(backend, workers, address)
    if stop is not None and stop.looks[-1] != len(chosen):
        raise ValueError(f"the last look is after {stop.looks[-1]} seeds, and there are {len(chosen)}: give as many")
    known = _arms(arms, setting)
    metric = metric or setting.metric
    _check_metric(metric, known, setting)
    versions = {arm: fingerprint(call) for arm, call in known.items()}
    for call in known.values():
        pack(call, chosen[0], budget)  # what cannot be sent to a worker is refused now
    common = {"task": fingerprint(setting.identity()), "setting": setting.name, "budget": str(budget)}
    with tempfile.TemporaryDirectory() as nowhere:
        folder = Store.make(nowhere if store is None else store, name or setting.name, common)
        setting.share(folder.path / "starts")
        for arm, call in known.items():
            folder.describe(arm, versions[arm], repr(call))
        study = Study(
            name=name or setting.name, path=None if store is None else folder.path, arms=tuple(known), seeds=(), budget=budget,
            metric=metric, better=better, bounds=setting.bounds, stop=stop,
        )  # fmt: skip
        make = _Maker(study, folder, known, versions, log)
        with _Bar(len(known) * len(chosen), study.name, progress) as bar:
            for last in stop.looks if stop is not None else (len(chosen),):
                done, study.seeds = len(study.seeds), chosen[:last]
                folder.ask(versions, study)
                try:
                    make.runs(study.seeds[done:], lambda told: backend_of(backend, workers or cores(), address, told), bar)
                except KeyboardInterrupt:
                    kept = f"{len(study.runs)} of {len(known) * len(chosen)} runs are kept in {study.path}; the same call goes on"
                    raise KeyboardInterrupt("stopped" + (f"; {kept}" if store is not None else "")) from None
                folder.ask(versions, study)  # now that the metric is known
                if stop is not None and study.comparison().done:
                    break
    _warn(study)
    return study


def sweep(
    grid: Mapping[str, Sequence[Any]], arm: Callable[..., Any], task: Any = None, seeds: int | Iterable[int] = 8, *,
    budget: str | Budget, metric: str | None = None, better: str | None = None, stop: Sequential | None = None,
    name: str | None = None, store: str | Path | None = "runs", backend: str = "processes", workers: int | None = None,
    address: str | None = None, progress: bool = True, log: Log | None = None,
) -> Study:  # fmt: skip
    """Compare the arms `arm(**point)` at every point of a grid; each is named by its point, such as "lr=0.001, prompts=8".

        sweep({"lr": [3e-4, 1e-3]}, lambda lr: trained("grpo", lr=lr), "addition", budget="50 updates")
        sweep({"c": [0.5, 1, 2]}, bandits.UCB, problem, budget="1000 samples")

    The best of many points looks better than it is: choose with some seeds, and report the chosen one on others.

    Args:
        arm: takes one value for each name of the grid, and returns an arm as `compare` takes it. The rest: see `compare`.
    """
    if not grid or any(isinstance(values, str) or not len(values) for values in grid.values()):
        raise ValueError(f"a grid is a dict of names and lists of values to try, not {grid!r}")
    points = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    arms = [(", ".join(f"{key}={_short(value)}" for key, value in point.items()), arm(**point)) for point in points]
    repeated = {label for label, _ in arms if [other for other, _ in arms].count(label) > 1}
    if repeated:
        raise ValueError(f"the grid has {sorted(repeated)[0]!r} twice")
    return compare(
        dict(arms), task, seeds, budget=budget, metric=metric, better=better, stop=stop, name=name, store=store,
        backend=backend, workers=workers, address=address, progress=progress, log=log,
    )  # fmt: skip


def load(path: str | Path) -> Study:
    """The study in a folder, as it was last asked for; nothing is run.

    Raises:
        ValueError: there is no study, a damaged one, or one of a newer version.
    """
    from workbench import stats

    folder = Store(Path(path))
    saved, asked = folder.content(), folder.asked()
    study = Study(
        name=saved["name"], path=folder.path, arms=tuple(asked["arms"]), seeds=tuple(asked["seeds"]),
        budget=Budget.of(saved["common"]["budget"]), metric=asked["metric"], better=asked["better"],
        bounds=asked["bounds"] and tuple(asked["bounds"]), stop=asked["stop"] and stats.Sequential(**asked["stop"]),
    )  # fmt: skip
    for arm, seed in itertools.product(study.arms, study.seeds):
        version = asked["arms"][arm]
        if folder.has(arm, version, seed):
            study.add(arm, seed, *folder.read(arm, version, seed))
        else:
            study.missing[arm, seed] = folder.failure(arm, version, seed) or "not run"
    return study


def runs(store: str | Path = "runs", *, rows: bool = False) -> pd.DataFrame:
    """Every run of every study in a store, one line each: study, arm, seed, status, and the last value of its study's metric.

    Args:
        rows: instead, what they logged: the frames of all studies under each other, with a column `study`.
    Raises:
        ValueError: a study is damaged or of a newer version. FileNotFoundError: there is no such folder.
    """
    import pandas as pd

    root = Path(store)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no store {root}; `compare` makes one")
    studies = [load(file.parent) for file in sorted(root.glob("*/study.json")) if any(file.parent.glob("asked/*.json"))]
    if rows:
        frames = [study.frame.assign(study=study.path.name if study.path else study.name) for study in studies]
        columns = ["study", "arm", "seed", "step", "metric", "value"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    lines = []
    for study in studies:
        scores = study.scores() if study.runs else None
        for arm, seed in itertools.product(study.arms, study.seeds):
            run = study.runs.get((arm, seed))
            value = math.nan if scores is None else scores.loc[seed, arm]
            lines.append({
                "study": study.path.name if study.path else study.name, "budget": str(study.budget), "arm": arm, "seed": seed,
                "status": "finished" if run else "missing: " + study.missing[arm, seed].strip().splitlines()[-1],
                "metric": study.metric, "value": value, "seconds": run.seconds[-1] if run else math.nan,
            })  # fmt: skip
    names = ["study", "budget", "arm", "seed", "status", "metric", "value", "seconds"]
    return pd.DataFrame(lines, columns=names)


def listing(table: pd.DataFrame) -> str:
    """What `runs` found, for a terminal: a line for each arm of each study, then each missing run with its reason."""
    if not len(table):
        return "no runs yet"
    lines = []
    for (study, budget), part in table.groupby(["study", "budget"], sort=False):
        lines.append(f"{study}  ({budget}, {part['metric'].iloc[0]})")
        width = max(len(arm) for arm in part["arm"])
        for arm, own in part.groupby("arm", sort=False):
            done = own[own["status"] == "finished"]
            mean = f"mean {done['value'].mean():.4g}" if len(done) else "no value"
            time = f"{done['seconds'].sum():.0f} s" if len(done) else ""
            lines.append(f"  {arm:<{width}}  {len(done)} of {len(own)} runs  {mean}  {time}".rstrip())
            lines += [f"    seed {one.seed} {one.status}" for one in own[own["status"] != "finished"].itertuples()]
    return "\n".join(lines)


# ---- making the runs --------------------------------------------------------------------------------------------------


class _Maker:
    """Makes the runs of a study that its folder has not got yet."""

    def __init__(self, study: Study, folder: Store, arms: dict[str, Arm], versions: dict[str, str], log: Log | None) -> None:
        self.study, self.folder, self.arms, self.versions, self.log = study, folder, arms, versions, log

    def runs(self, seeds: Sequence[int], backend: Callable[[Callable[[Event], None]], Backend], bar: _Bar) -> None:
        """The first seed of every arm, then arm by arm: mistakes show early, and warm starts are not waited for."""
        order = [(arm, seed) for some in (seeds[:1], seeds[1:]) for arm in self.arms for seed in some]
        jobs = []
        for arm, seed in order:
            if self.folder.has(arm, self.versions[arm], seed):
                self.study.add(arm, seed, *self.folder.read(arm, self.versions[arm], seed))
                bar.finish()
            else:
                payload = pack(self.arms[arm], seed, self.study.budget)
                jobs.append(Job(arm, self.versions[arm], seed, payload))

        def told(event: Event) -> None:
            job, what, value = event
            if what == "progress":
                bar.at(job, value)
                return
            bar.finish(job)
            if what == "failed":
                self.study.missing[job.arm, job.seed] = value
                return
            self.study.add(job.arm, job.seed, *value)
            if self.log is not None:
                self.log(job.arm, job.seed, value[0].rows)

        if jobs:
            execute(jobs, backend(told), self.folder, told)


class _Bar:
    """One bar for the whole study, in runs, parts of a run counted too."""

    def __init__(self, total: int, title: str, shown: bool) -> None:
        from tqdm.auto import tqdm

        form = "{desc}: {percentage:3.0f}% |{bar}| {n:.1f} of {total} runs [{elapsed}, {remaining} left]"
        self._bar = tqdm(total=total, desc=title, disable=not shown, bar_format=form)
        self._done, self._shares = 0, {}  # type: tuple[int, dict[Job, float]]

    def at(self, job: Job, share: float) -> None:
        self._shares[job] = min(share, 0.99)
        self._show()

    def finish(self, job: Job | None = None) -> None:
        if job is not None:
            self._shares.pop(job, None)
        self._done += 1
        self._show()

    def _show(self) -> None:
        self._bar.n = self._done + sum(self._shares.values())
        self._bar.refresh()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


# ---- what is asked for ------------------------------------------------------------------------------------------------


def _seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    chosen = tuple(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    if isinstance(chosen, (bool, str)) or not isinstance(chosen, Iterable):
        raise TypeError(f"seeds must be a number of seeds or a list of them, not {seeds!r}")
    found = []
    for seed in chosen:
        if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed.__index__() < 0:
            raise ValueError(f"a seed must be a whole number, 0 or more, not {seed!r}")
        found.append(seed.__index__())
    if not found:
        raise ValueError(f"a study needs at least one seed, not seeds={seeds!r}")
    repeated = sorted({seed for seed in found if found.count(seed) > 1})
    if repeated:
        raise ValueError(f"seed {repeated[0]} is there {found.count(repeated[0])} times; the same run twice is not two runs")
    return tuple(found)


def _arms(arms: Sequence[Any] | Mapping[str, Any], setting: Setting) -> dict[str, Arm]:
    if isinstance(arms, str) or not isinstance(arms, (Mapping, Sequence)):
        raise TypeError(f"arms must be a list or a mapping from names to arms, not {arms!r}")
    pairs = list(arms.items()) if isinstance(arms, Mapping) else [(None, one) for one in arms]
    if not pairs:
        raise ValueError("there is no arm to run")
    known: dict[str, Arm] = {}
    for name, given in pairs:
        own, call = (function_name(given), given) if is_function(given) else setting.arm(given)
        name = own if name is None else str(name)
        if call is given:
            check_function(name, given)
        if name in known:
            raise ValueError(f"two arms are called {name!r}; give a mapping from names to arms")
        known[name] = call
    return known


def _check_metric(metric: str | None, arms: Mapping[str, Arm], setting: Setting) -> None:
    logged = setting.metrics()
    if metric in AXES:
        raise ValueError(f"{metric!r} is an axis of the curves; choose a metric")
    if metric is None or logged is None:
        return
    for name, call in arms.items():
        if not is_function(call) and metric not in logged:
            raise ValueError(f"arm {name!r} never logs {metric!r}; on {setting.name} there are {', '.join(logged)}")


def _check_backend(backend: str, workers: int | None, address: str | None) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if workers is not None and (workers < 1 or backend != "processes"):
        raise ValueError(f"workers={workers!r} with backend={backend!r}: a number from 1 on, for 'processes' only")
    if address is not None and backend != "ray":
        raise ValueError(f"address={address!r} is of a Ray cluster; it needs backend='ray'")


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(getattr(value, "name", None) or value)


def _warn(study: Study) -> None:
    """Say what is missing, and what was not made with the code there is now."""
    if study.missing and not study.runs:
        raise RuntimeError("every run failed; the first one:\n" + next(iter(study.missing.values())))
    if study.missing:
        (arm, seed), reason = next(iter(study.missing.items()))
        warnings.warn(
            f"{len(study.missing)} of {len(study.missing) + len(study.runs)} runs are missing and count as the worst possible; "
            f"{arm!r}, seed {seed}: {reason.strip().splitlines()[-1]} (study.missing has the tracebacks; ask again to retry)",
            stacklevel=3,
        )
    sources = {made["source"] for made in study.made_with.values()}
    if sources - {made_with()["source"]}:
        warnings.warn(
            f"some runs in {study.path} were made with other code of the same version of this package; to make them again, "
            "delete that folder or choose another store=", stacklevel=3,
        )  # fmt: skip
