"""What every trial of a run folder is doing: from its own files, and from the queue where there is one.

A folder is read through its two small files and the ends of the growing ones, so thousands take a second.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from perfbench.errors import PerfbenchError, ResultsError
from perfbench.launch.failure import telling_line
from perfbench.results.files import MOST_FACT_BYTES, open_plainly, read_regular_file
from perfbench.results.store import EXPLORED, TrialFolder
from perfbench.results.trials import TrialKey
from perfbench.spec.result import Crashed, Diverged, TrialResult

_END_BYTES = 4096
"""Of a growing file: some records, and always the latest one."""


class TrialState(StrEnum):
    """What a trial is doing."""

    REACHED = "reached"
    BUDGET_SPENT = "budget_spent"
    DIVERGED = "diverged"
    COMPLETED = "completed"
    CRASHED = "crashed"
    RUNNING = "running"
    QUEUED = "queued"
    INTERRUPTED = "interrupted"
    """It was started, has no result, and nothing is going to continue it."""
    PLANNED = "planned"
    """Nothing has started it, and nothing is going to."""
    DAMAGED = "damaged"
    """Its records cannot be read."""

    @property
    def is_done(self) -> bool:
        """Tell whether the trial has a result that stays."""
        return self in _DONE

    @property
    def is_under_way(self) -> bool:
        """Tell whether a job takes care of the trial."""
        return self in (TrialState.RUNNING, TrialState.QUEUED)


_DONE = frozenset({TrialState.REACHED, TrialState.BUDGET_SPENT, TrialState.DIVERGED, TrialState.COMPLETED})


@dataclass(frozen=True, slots=True)
class JobOfTrial:
    """The job that is to run a trial."""

    job_id: str
    is_running: bool
    reason: str
    """Why it waits, in Slurm's words."""
    nodes: str = ""
    is_held: bool = False
    """It waits until it is released, as ``perfbench resume`` does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialStatus:
    """One row of ``perfbench status``."""

    key: TrialKey
    state: TrialState
    step: int | None = None
    metric: float | None = None
    """The target's: the best once there is a result, the latest before."""
    time_s: float | None = None
    """On the clock."""
    num_attempts: int | None = None
    phase: str = ""
    """Of a running trial."""
    reason: str = ""
    job_id: str = ""
    nodes: str = ""


def statuses(runs_root: Path, jobs: Mapping[Path, JobOfTrial]) -> list[TrialStatus]:
    """Return the status of every trial under a run folder, sorted.

    Args:
        runs_root: Holds ``<submission>/study_<i>/<workload>/trial_<j>``.
        jobs: By trial folder.
    """
    found = [_status_if_readable(folder, key, jobs.get(folder)) for folder, key in trial_folders(runs_root)]
    return sorted(found, key=lambda status: status.key)


def _status_if_readable(folder: Path, key: TrialKey, job: JobOfTrial | None) -> TrialStatus:
    """Return the status of one trial: what is wrong with one must not hide a thousand others."""
    try:
        return status_of(folder, key, job)
    except (PerfbenchError, OSError) as problem:
        told = ResultsError.of_file(problem, where=str(folder)) if isinstance(problem, OSError) else problem
        return TrialStatus(key=key, state=TrialState.DAMAGED, reason=" ".join(str(told).split()))


def trial_folders(runs_root: Path) -> Iterator[tuple[Path, TrialKey]]:
    """Yield the folders that are in the place of a trial, with what the trial is called."""
    for submission in _folders(runs_root):
        for study in _folders(submission.path, "study_"):
            for workload in _folders(study.path):
                for trial in _folders(workload.path, "trial_"):
                    yield (
                        Path(trial.path),
                        TrialKey(submission.name, workload.name, int(study.name[6:]), int(trial.name[6:])),
                    )
        for workload in _folders(f"{submission.path}/{EXPLORED}"):
            for trial in _folders(workload.path):
                yield Path(trial.path), TrialKey(submission.name, workload.name, 0, 0, trial.name)


def _folders(folder: Path | str, prefix: str = "") -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name.startswith(prefix) and not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [entry for entry in found if entry.is_dir() and (not prefix or entry.name[len(prefix) :].isdecimal())]


def status_of(folder: Path, key: TrialKey, job: JobOfTrial | None) -> TrialStatus:
    """Return the status of one trial.

    Raises:
        ResultsError: If its result is damaged.
    """
    if (text := _content(folder / "result.json")) is not None:
        result = TrialResult.from_json(text, where=str(folder / "result.json"), error=ResultsError)
        if not (isinstance(result.outcome, Crashed) and job is not None):  # a job is about to try it again
            return _finished(key, result)
    pulse = _last_of_kind(folder / "telemetry.jsonl", "pulse") or {}
    measured = _last_of_kind(folder / "measurements.jsonl", "measurement")
    state = _state_without_result(folder, job)
    return TrialStatus(
        key=key,
        state=state,
        step=pulse.get("at_step"),
        metric=_target_metric(folder, measured),
        time_s=pulse.get("submission_time_s"),
        phase=pulse.get("phase", "") if state is TrialState.RUNNING else "",
        reason=_reason(job),
        job_id="" if job is None else job.job_id,
        nodes="" if job is None else job.nodes,
    )


def _state_without_result(folder: Path, job: JobOfTrial | None) -> TrialState:
    """Return what a trial is doing: its job knows, and without one whoever holds its lock."""
    if job is not None:
        return TrialState.RUNNING if job.is_running else TrialState.QUEUED
    if TrialFolder(folder).is_running():
        return TrialState.RUNNING
    return TrialState.INTERRUPTED if (folder / "telemetry.jsonl").exists() else TrialState.PLANNED


def _reason(job: JobOfTrial | None) -> str:
    if job is None:
        return ""
    return f"held ({job.reason}): `perfbench resume` releases it" if job.is_held else job.reason


def _finished(key: TrialKey, result: TrialResult) -> TrialStatus:
    outcome = result.outcome
    if isinstance(outcome, Crashed):
        reason = f"{outcome.reason.value}, rank {outcome.rank}: {telling_line(outcome.message)}"
    else:
        reason = f"nan: {outcome.what}" if isinstance(outcome, Diverged) else ""
    return TrialStatus(
        key=key,
        state=TrialState(outcome.kind),
        step=outcome.step,
        metric=result.best_metric,
        time_s=None if isinstance(outcome, Crashed) else outcome.submission_time_s,
        num_attempts=result.num_attempts,
        reason=reason,
    )


def _target_metric(folder: Path, measured: dict[str, Any] | None) -> float | None:
    if measured is None or (text := _content(folder / "run.json")) is None:
        return None
    try:
        return float(measured["metrics"][json.loads(text)["target"]["metric"]])
    except (ValueError, KeyError, TypeError):
        return None  # not measured, or damaged: `perfbench verify` says what


def _content(path: Path) -> bytes | None:
    try:
        return read_regular_file(path, max_bytes=MOST_FACT_BYTES)
    except FileNotFoundError:
        return None


def _last_of_kind(path: Path, kind: str) -> dict[str, Any] | None:
    """Return the last whole line of a kind near the end of a growing file; ``None`` if there is none."""
    try:
        with os.fdopen(open_plainly(path, os.O_RDONLY), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _END_BYTES))
            block = file.read()
    except FileNotFoundError:
        return None
    marker = f'"kind": "{kind}"'.encode(), f'"kind":"{kind}"'.encode()
    for line in reversed(block.split(b"\n")[:-1]):
        if any(sign in line for sign in marker):
            try:
                found: dict[str, Any] = json.loads(line)
            except ValueError:
                continue  # cut by the beginning of the block
            return found if isinstance(found, dict) else None
    return None
