"""A sweep: many requests to trials, and which of them there is still to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfbench.errors import ResultsError
from perfbench.launch.plan import plan_study
from perfbench.launch.states import JobOfTrial, TrialState, status_of
from perfbench.results.store import TrialFolder
from perfbench.results.trials import TrialKey
from perfbench.spec.run import RunSpec, TrialSpec


@dataclass(frozen=True, slots=True)
class SweptTrial:
    """A planned trial and what it is doing now."""

    trial: TrialSpec
    state: TrialState


def plan_sweep(requests: Sequence[RunSpec]) -> list[TrialSpec]:
    """Return the trials of all requests, in order.

    Raises:
        PerfbenchError: As :func:`perfbench.launch.plan.plan_study`, for the first request that is impossible.
    """
    return [trial for request in requests for trial in plan_study(request)]


def look_up(trials: Sequence[TrialSpec], runs_root: Path, jobs: Mapping[Path, JobOfTrial]) -> list[SweptTrial]:
    """Return what every planned trial is doing; nothing is written.

    Raises:
        ResultsError: If a folder holds a trial with another configuration.
    """
    return [SweptTrial(trial, _state(trial, runs_root, jobs)) for trial in trials]


def _state(trial: TrialSpec, runs_root: Path, jobs: Mapping[Path, JobOfTrial]) -> TrialState:
    folder = TrialFolder.of(runs_root, trial)
    key = TrialKey(trial.submission.name, trial.workload.name, trial.study, trial.trial)
    try:
        if not (folder.path / "run.json").exists():
            return TrialState.PLANNED
        folder.check_belongs(trial)
        return status_of(folder.path, key, jobs.get(folder.path)).state
    except OSError as problem:
        raise ResultsError.of_file(problem, what="the records cannot be read", where=str(folder.path)) from None


def to_submit(swept: Sequence[SweptTrial], *, retry_failed: bool) -> list[TrialSpec]:
    """Return the trials that nothing takes care of: never what is done, running or queued."""
    wanted = {TrialState.PLANNED, TrialState.INTERRUPTED} | ({TrialState.CRASHED} if retry_failed else set())
    return [one.trial for one in swept if one.state in wanted]


def read_trials_back(runs_root: Path, folders: Sequence[Path]) -> list[TrialSpec]:
    """Read trials back from their folders.

    Raises:
        ResultsError: If one cannot be read.
    """
    trials = []
    for path in folders:
        folder = TrialFolder(path)
        trial = folder.trial()
        if TrialFolder.of(runs_root, trial).path != path:
            raise ResultsError(
                "the trial in this folder belongs elsewhere",
                where=str(path / "run.json"),
                hint=f"its place is {TrialFolder.of(runs_root, trial).path}",
            )
        trials.append(trial)
    return trials
