"""Which trials of the mini board are missing, and in what order they shall run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

from benchmarks.mini_results import Best, Results, best_factor, best_of
from perfbench.compose import compose_run, compose_workload
from perfbench.launch.plan import plan_trial
from perfbench.spec.ruleset import ExternalTuning
from perfbench.spec.run import RunSpec
from perfbench.spec.workload import ScaleName, Target, TargetKind, WorkloadSpec

FACTORS = (1.0, 0.316, 3.16, 0.1, 10.0)
"""Of the learning rate: half a decade apart."""
RATE = "learning_rate"


class Job(NamedTuple):
    """One trial that is missing."""

    workload: str
    submission: str
    point: int
    factor: float = 1.0


class SubmissionFacts(NamedTuple):
    """What of a submission decides which trials it has."""

    num_points: int
    is_external: bool
    has_rate: bool
    """Whether its points have a learning rate: without one there is nothing to rescale."""
    missing_files: tuple[str, ...]


@cache
def facts_of(submission: str) -> SubmissionFacts:
    """Read a submission's configuration."""
    request = _request(submission, 1)
    return SubmissionFacts(
        num_points=request.ruleset.num_trials,
        is_external=isinstance(request.ruleset, ExternalTuning),
        has_rate=rate_of(submission, 1) is not None,
        missing_files=tuple(name for name, file in request.submission.files.items() if file.path is None),
    )


@cache
def rate_of(submission: str, point: int) -> float | None:
    """Return a point's learning rate; ``None`` where the submission has none that could be set."""
    trial = plan_trial(_request(submission, point))
    rate = (trial.hyperparameters or {}).get(RATE)
    return float(rate) if isinstance(rate, int | float) else None


@cache
def _request(submission: str, point: int) -> RunSpec:
    return compose_run([f"submission={submission}", f"trial={point}"])


@cache
def workload_of(name: str) -> WorkloadSpec:
    """Compose a workload at mini scale."""
    return compose_workload(name, scale=ScaleName.MINI.value)


def target_of(workload: str) -> Target:
    """Return the target that the mini board asks for: the easier one."""
    return workload_of(workload).targets[TargetKind.SMOKE]


@dataclass(frozen=True)
class Wanted:
    """What the board shall hold."""

    workloads: tuple[str, ...]
    submissions: tuple[str, ...]
    max_trials: int
    rescaled_on: str
    first: frozenset[str] = frozenset()
    """Submissions that run on all workloads before the others begin."""

    def best(self, results: Results, workload: str, submission: str, factor: float = 1.0) -> Best | None:
        """Return what a submission did on a workload."""
        num_points = min(self.max_trials, facts_of(submission).num_points)
        return best_of(results.of(workload, submission, factor), target_of(workload), num_points=num_points)

    def factor(self, results: Results, submission: str) -> float | None:
        """Return the factor of a submission's rate once all have been tried; ``None`` before, or without a rate."""
        tried = [one for factor in FACTORS for one in results.of(self.rescaled_on, submission, factor)[:1]]
        if not facts_of(submission).has_rate or len(tried) < len(FACTORS):
            return None
        return best_factor(tried, target_of(self.rescaled_on))

    def missing(self, results: Results) -> Iterator[Job]:
        """Yield what has not run: a group's points as published, its factors of the rate, its points with the best one.

        On every workload the first point of all comes first, then the other points of those that have missed the
        target.
        """
        able = [name for name in self.submissions if not facts_of(name).missing_files]
        for is_first in (True, False):
            names = [name for name in able if (name in self.first) is is_first]
            yield from self._points(results, dict.fromkeys(names, 1.0))
            for name in names:
                if facts_of(name).has_rate:
                    missing = (one for one in FACTORS if not results.of(self.rescaled_on, name, one))
                    yield from (Job(self.rescaled_on, name, 1, one) for one in missing)
            yield from self._points(results, {name: one for name in names if (one := self.factor(results, name))})

    def _points(self, results: Results, factors: Mapping[str, float]) -> Iterator[Job]:
        for workload, point in product(self.workloads, range(1, self.max_trials + 1)):
            for name, factor in factors.items():
                found = self.best(results, workload, name, factor)
                if (found is None and point == 1) or (found and not found.is_over and found.num_tried == point - 1):
                    yield Job(workload, name, point, factor)
