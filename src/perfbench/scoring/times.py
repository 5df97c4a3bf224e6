"""From trials to one time per submission and workload: fastest trial of a study, median over studies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perfbench.results.benchmark import AsPublished, Benchmark
from perfbench.results.trials import Floats, TrialKey, TrialLog
from perfbench.scoring.target import TrialEnd, trial_end


class StudyTime(NamedTuple):
    """One study of a submission on a workload."""

    study: int
    time_s: float
    """Of the trial that counts; infinite where no trial reached the target."""
    trial: int | None
    """Which trial counts."""
    num_trials: int


@dataclass(frozen=True, slots=True)
class WorkloadTime:
    """All studies of a submission on a workload."""

    studies: tuple[StudyTime, ...]
    num_unfinished: int = 0

    @property
    def time_s(self) -> float:
        """Return the median over studies; infinite without any."""
        return median_time([study.time_s for study in self.studies])


Times = Mapping[tuple[str, str], WorkloadTime]
"""By (submission, workload)."""
Ends = Mapping[TrialKey, TrialEnd]
BestTrial = Callable[[TrialKey, TrialEnd], tuple[float, ...]]
"""Gives each trial of a study a rank; the smallest counts."""


def median_time(times_s: Iterable[float]) -> float:
    """Return the median; infinite where a middle value is, or without values.

    >>> median_time([3.0, 1.0, math.inf]), median_time([1.0, math.inf]), median_time([])
    (3.0, inf, inf)
    """
    values = sorted(times_s)
    if not values:
        return math.inf
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def fastest_by_time(key: TrialKey, end: TrialEnd) -> tuple[float, ...]:
    """Rank trials by submission time to the target (the rule); equal times by number, for a stable answer."""
    return (end.time_s, key.trial)


def fastest_as_published(published: AsPublished) -> BestTrial:
    """Rank trials by evaluation index and, among equals, by the published order."""
    order = {trial: place for place, trial in enumerate(published.trial_order)}

    def rank(key: TrialKey, end: TrialEnd) -> tuple[float, ...]:
        index = end.evaluation_index if math.isfinite(end.time_s) else None
        return (math.inf if index is None else index, order.get(key.trial, len(order)), key.trial)

    return rank


def trial_ends(logs: Iterable[TrialLog], benchmark: Benchmark) -> dict[TrialKey, TrialEnd]:
    """Judge every scorable trial of the benchmark's workloads."""
    return {
        log.key: trial_end(log, benchmark.workloads[log.key.workload])
        for log in logs
        if log.is_scorable and log.key.workload in benchmark.workloads
    }


def workload_times(
    ends: Ends, *, unfinished: frozenset[TrialKey] = frozenset(), best_trial: BestTrial = fastest_by_time
) -> dict[tuple[str, str], WorkloadTime]:
    """Reduce trials to studies and group them by submission and workload."""
    trials: dict[tuple[str, str, int], list[tuple[TrialKey, TrialEnd]]] = defaultdict(list)
    for key, end in ends.items():
        trials[key.submission, key.workload, key.study].append((key, end))
    studies: dict[tuple[str, str], list[StudyTime]] = defaultdict(list)
    waiting: dict[tuple[str, str], int] = defaultdict(int)
    for (submission, workload, study), members in sorted(trials.items()):
        best, end = min(members, key=lambda member: best_trial(*member))
        trial = best.trial if math.isfinite(end.time_s) else None
        studies[submission, workload].append(StudyTime(study, end.time_s, trial, len(members)))
        waiting[submission, workload] += sum(key in unfinished for key, _ in members)
    return {cell: WorkloadTime(tuple(found), waiting[cell]) for cell, found in studies.items()}


def time_array(times: Times, submissions: tuple[str, ...], benchmark: Benchmark) -> Floats:
    """Return medians in seconds, submission by workload; infinite where nothing was run."""
    rows = [
        [times[name, workload].time_s if (name, workload) in times else math.inf for workload in benchmark.workloads]
        for name in submissions
    ]
    return np.array(rows, dtype=np.float64).reshape(len(submissions), len(benchmark.workloads))
