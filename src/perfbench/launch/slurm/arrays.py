"""Which trials share a job array, how long an element may take, and what all of it costs at most."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfbench.errors import ConfigError
from perfbench.spec.run import SlurmCluster, TrialSpec

_S_PER_MIN = 60.0
_MIN_PER_H = 60.0
_EARLY_S = 30
"""Slurm looks at time limits so often, and announces them up to so much early."""
_START_S = 30
"""Nothing trains sooner."""

DEFAULT_MAX_ARRAY_SIZE = 1001
"""Slurm's own default of ``MaxArraySize``: for plans made where there is no Slurm."""


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """One job array: trials of one submission on one workload, an element each."""

    trials: tuple[TrialSpec, ...]
    time_limit_min: int
    """Of one attempt of any of its trials."""

    @property
    def title(self) -> str:
        """Return what the array is called in a queue, before the name that makes it unique."""
        return f"{self.trials[0].submission.name}.{self.trials[0].workload.name}"


def plan_arrays(trials: Sequence[TrialSpec], cluster: SlurmCluster, *, max_array_size: int) -> list[ArrayPlan]:
    """Group trials into one array per submission and workload, split where the cluster allows no larger one.

    Args:
        trials: In any order; each array keeps it.
        cluster: Where they go.
        max_array_size: The cluster's ``MaxArraySize``: one more than the largest index, so the size of an array.
    """
    groups: dict[tuple[str, str], list[TrialSpec]] = {}
    for trial in trials:
        groups.setdefault((trial.submission.name, trial.workload.name), []).append(trial)
    size = min(max_array_size, cluster.max_array_size or max_array_size)
    return [
        ArrayPlan(tuple(part), max(time_limit_min(trial, cluster) for trial in part))
        for group in groups.values()
        for part in _parts(group, size)
    ]


def _parts(trials: Sequence[TrialSpec], size: int) -> Iterator[Sequence[TrialSpec]]:
    for start in itertools.count(0, size):
        if start >= len(trials):
            return
        yield trials[start : start + size]


def time_limit_min(trial: TrialSpec, cluster: SlurmCluster) -> int:
    """Return the minutes that one attempt may take: budget, evaluations and start, or what the configuration says."""
    if cluster.time_limit_min is not None:
        return cluster.time_limit_min
    training_min = trial.max_submission_time_s / _S_PER_MIN
    return math.ceil(training_min * (1 + cluster.evaluation_allowance)) + cluster.start_allowance_min


def check_time_limits(arrays: Sequence[ArrayPlan], cluster: SlurmCluster) -> None:
    """Check that every attempt has time to train before it is told to save.

    Raises:
        ConfigError: If not: it would be requeued for ever.
    """
    least_min = math.ceil((cluster.signal_lead_s + _EARLY_S + _START_S) / _S_PER_MIN)
    shortest_min = min((array.time_limit_min for array in arrays), default=least_min)
    if shortest_min < least_min:
        raise ConfigError(
            f"{counted(shortest_min, 'minute')} leave no time to train: cluster.signal_lead_s keeps "
            f"{cluster.signal_lead_s} s of them for saving, and Slurm announces the end up to {_EARLY_S} s early",
            where="cluster.time_limit_min",
            hint=f"at least {least_min}, and time to start and compile; or a smaller cluster.signal_lead_s",
        )


def counted(number: int, what: str) -> str:
    """Return a number with what it counts.

    >>> counted(1, "job"), counted(2000, "job")
    ('1 job', '2,000 jobs')
    """
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def rank_hours_at_most(arrays: Sequence[ArrayPlan]) -> float:
    """Return ranks x hours if every trial took its whole time limit once."""
    return sum(array.time_limit_min / _MIN_PER_H * trial.num_ranks for array in arrays for trial in array.trials)


def hours_at_most(arrays: Sequence[ArrayPlan], *, num_running: int) -> float:
    """Return hours until all is done if so many elements run at once and each takes its whole time limit."""
    total_min = sum(array.time_limit_min * len(array.trials) for array in arrays)
    longest_min = max((array.time_limit_min for array in arrays), default=0)
    return max(total_min / num_running, longest_min) / _MIN_PER_H
