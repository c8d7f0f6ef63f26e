"""Studies: arms compared over seeds, with honest error bars.

    study = compare(["grpo", "gtpo"], "calculator", seeds=8, budget="100 updates")
    study.summary()

To read it: `cell` says what a run is, `adapters` how everything becomes one, `store` where finished ones are kept, `execute`
where they are made, `verbs` puts this together, and `result` says what came out.
"""

from workbench.study.cell import Budget, Run, run_cell
from workbench.study.fingerprint import fingerprint
from workbench.study.result import Rollouts, Study, Summary
from workbench.study.verbs import compare, load, runs, sweep

__all__ = ["Budget", "Rollouts", "Run", "Study", "Summary", "compare", "fingerprint", "load", "run_cell", "runs", "sweep"]
