from __future__ import annotations

import math

import pytest

from perfbench.spec.judge import judge
from perfbench.spec.result import BudgetSpent, Diverged, TargetReached
from perfbench.spec.workload import Direction, Target

LOSS = Target(metric="validation/loss", direction=Direction.MINIMIZE, threshold=0.5, source="test")
ACCURACY = Target(metric="validation/accuracy", direction=Direction.MAXIMIZE, threshold=0.9, source="test")


def outcome(
    value: float, *, time_s: float = 10.0, step: int = 5, target: Target = LOSS, max_steps: int | None = 100
) -> object:
    return judge(
        step=step,
        submission_time_s=time_s,
        metrics={target.metric: value},
        target=target,
        max_submission_time_s=20.0,
        max_steps=max_steps,
    )


@pytest.mark.parametrize(
    ("value", "target", "is_reached"),
    [
        (0.5, LOSS, True),
        (math.nextafter(0.5, 1), LOSS, False),
        (0.1, LOSS, True),
        (0.9, ACCURACY, True),
        (math.nextafter(0.9, 0), ACCURACY, False),
        (1.0, ACCURACY, True),
    ],
)
def test_equality_reaches_the_target_in_both_directions(value: float, target: Target, is_reached: bool) -> None:
    assert isinstance(outcome(value, target=target), TargetReached) == is_reached


def test_a_target_met_after_the_budget_does_not_count() -> None:
    assert isinstance(outcome(0.1, time_s=20.0), TargetReached)
    assert outcome(0.1, time_s=math.nextafter(20, 21)) == BudgetSpent(
        resource="time", step=5, submission_time_s=math.nextafter(20, 21)
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_has_diverged_even_where_it_would_reach(value: float) -> None:
    assert isinstance(outcome(value), Diverged)


def test_a_missing_metric_has_diverged() -> None:
    ended = judge(step=1, submission_time_s=1.0, metrics={}, target=LOSS, max_submission_time_s=20.0, max_steps=None)

    assert isinstance(ended, Diverged)


def test_time_is_asked_before_divergence_and_the_target_before_the_steps() -> None:
    assert isinstance(outcome(math.nan, time_s=21.0), BudgetSpent)
    assert isinstance(outcome(0.1, step=100), TargetReached)
    assert outcome(0.7, step=100) == BudgetSpent(resource="steps", step=100, submission_time_s=10.0)


def test_otherwise_the_trial_goes_on() -> None:
    assert outcome(0.7) is None
    assert outcome(0.7, step=10_000, max_steps=None) is None
