"""From a trial's evaluations to how it ended: the same judgement as in the engine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perfbench.results.benchmark import BenchmarkWorkload
from perfbench.results.trials import TrialLog
from perfbench.spec.judge import judge
from perfbench.spec.result import BudgetSpent, Diverged, TargetReached
from perfbench.spec.workload import Direction


class TrialEnd(NamedTuple):
    """What the evaluations say about a trial."""

    outcome: TargetReached | BudgetSpent | Diverged | None
    """``None`` where no evaluation ends it."""
    evaluation_index: int | None
    """Counts from zero."""
    time_s: float
    """Submission time to the target; infinite where it was not reached."""


_NO_END = TrialEnd(None, None, float("inf"))


def trial_end(log: TrialLog, workload: BenchmarkWorkload) -> TrialEnd:
    """Return how a trial ends at its first evaluation that decides it.

    ``judge`` decides. Asking it about every evaluation of 100,000 trials takes minutes, so it is asked only about
    those that could end a trial: a superset, found in one pass over the columns.
    """
    target = workload.target
    metric = log.target_metric
    minimize = target.direction is Direction.MINIMIZE
    might_end = metric <= target.threshold if minimize else metric >= target.threshold
    might_end |= ~np.isfinite(metric)
    might_end |= log.submission_times_s > workload.max_submission_time_s
    if workload.max_steps is not None:
        might_end |= log.steps >= workload.max_steps
    for index in might_end.nonzero()[0].tolist():
        outcome = judge(
            step=int(log.steps[index]),
            submission_time_s=float(log.submission_times_s[index]),
            metrics={target.metric: float(metric[index])},
            target=target,
            max_submission_time_s=workload.max_submission_time_s,
            max_steps=workload.max_steps,
        )
        if isinstance(outcome, TargetReached):
            return TrialEnd(outcome, int(index), outcome.submission_time_s)
        if outcome is not None:
            return TrialEnd(outcome, int(index), float("inf"))
    return _NO_END
