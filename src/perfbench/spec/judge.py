"""One pure function decides what an evaluation means. The engine and the scoring both ask it.

It stands in ``spec`` because neither of the two may import the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from perfbench.spec.result import BudgetSpent, Diverged, TargetReached
from perfbench.spec.workload import Target


def time_is_spent(submission_time_s: float, max_submission_time_s: float) -> bool:
    """Tell whether the budget is exceeded; exactly on the budget is inside."""
    return submission_time_s > max_submission_time_s


def judge(
    *,
    step: int,
    submission_time_s: float,
    metrics: Mapping[str, float],
    target: Target,
    max_submission_time_s: float,
    max_steps: int | None,
) -> TargetReached | BudgetSpent | Diverged | None:
    """Return how the trial ends at this evaluation, or ``None`` if it goes on.

    The order is a rule:

    1. Time: an evaluation after the budget is worth nothing, whatever it shows.
    2. Divergence: a target metric that is missing, infinite or NaN ends the trial.
    3. Target: reached, inclusive.
    4. Steps: the last allowed step was evaluated and did not reach the target.

    Args:
        step: Optimizer steps done.
        submission_time_s: Seconds on the clock, the slowest rank's.
        metrics: Results by ``<split>/<name>``.
        target: What ends the trial as reached.
        max_submission_time_s: The time budget, the ruleset's factor included.
        max_steps: The limit on steps, if the ruleset has one.
    """
    if time_is_spent(submission_time_s, max_submission_time_s):
        return BudgetSpent(resource="time", step=step, submission_time_s=submission_time_s)
    if not math.isfinite(metrics.get(target.metric, math.nan)):
        return Diverged(step=step, submission_time_s=submission_time_s, metric=target.metric)
    if target.is_reached_by(metrics):
        return TargetReached(step=step, submission_time_s=submission_time_s)
    if max_steps is not None and step >= max_steps:
        return BudgetSpent(resource="steps", step=step, submission_time_s=submission_time_s)
    return None
