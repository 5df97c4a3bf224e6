"""Trials in memory for scoring tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perfbench.results.benchmark import Benchmark, BenchmarkWorkload
from perfbench.results.trials import TrialKey, TrialLog
from perfbench.spec.ruleset import ScoringRule
from perfbench.spec.workload import Direction, Target

BUDGET_S = 100.0
TARGET = Target(metric="validation/loss", direction=Direction.MINIMIZE, threshold=0.5, source="test")
SCORING = ScoringRule(
    tau_max=4.0, max_ratio_to_fastest=4.0, held_out_required=False, integration="exact", grid_points=100
)


def benchmark(*workloads: str, num_studies: int = 5, num_trials: int = 5, budget_s: float = BUDGET_S) -> Benchmark:
    """Return a benchmark of base workloads with target 0.5 or less."""
    return Benchmark(
        name="test",
        source="test",
        num_studies=num_studies,
        num_trials=num_trials,
        scoring=SCORING,
        workloads={name: BenchmarkWorkload(target=TARGET, max_submission_time_s=budget_s) for name in workloads},
    )


def log(
    *,
    times_s: Sequence[float],
    metric: Sequence[float],
    steps: Sequence[int] | None = None,
    key: TrialKey | None = None,
    trial: int = 1,
) -> TrialLog:
    """Return a trial with these evaluations."""
    return TrialLog(
        key=key or TrialKey("a", "w", 0, trial),
        path=Path("test"),
        steps=np.array(range(1, len(times_s) + 1) if steps is None else steps, dtype=np.int64),
        submission_times_s=np.array(times_s, dtype=np.float64),
        target_metric=np.array(metric, dtype=np.float64),
    )


def reaching(
    time_s: float,
    *,
    submission: str = "a",
    workload: str = "w",
    study: int = 0,
    trial: int = 1,
    is_scorable: bool = True,
    is_finished: bool = True,
) -> TrialLog:
    """Return a trial that reaches the target at ``time_s``; never, where that is infinite."""
    is_reached = math.isfinite(time_s)
    return TrialLog(
        key=TrialKey(submission, workload, study, trial),
        path=Path("test"),
        steps=np.array([1], dtype=np.int64),
        submission_times_s=np.array([time_s if is_reached else BUDGET_S]),
        target_metric=np.array([0.1 if is_reached else 0.9]),
        is_scorable=is_scorable,
        is_finished=is_finished,
    )
