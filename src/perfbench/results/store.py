"""One trial's folder: what is written when, and what may never be overwritten.

Layout (docs/results-format.md)::

    runs/<submission>/study_<i>/<workload>/trial_<j>/
    runs/<submission>/explored/<workload>/<what differs>/      a trial that somebody tried by hand: the same files
        run.json             the TrialSpec, written once
        code.json            digests of all files that it began with, and of what it was continued with
        code/                the texts of the submission's folder, for comparison
        environment.json     of the latest attempt; environment.attempt_<n>.json of earlier ones
        measurements.jsonl   append-only: the only input of scoring
        telemetry.jsonl      append-only: read by no score
        result.json          written once at the end
        tracking.json        the trial's name on dashboards, if it was ever mirrored
        failure_rank_<r>.json, logs/, checkpoints/
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from perfbench.errors import LaunchError, ResultsError
from perfbench.results.files import append_line, iterate_lines, read_lines, write_text_atomically
from perfbench.spec.base import Spec
from perfbench.spec.code import CodeRecord
from perfbench.spec.environment import Environment
from perfbench.spec.result import Crashed, FailureReason, Measurement, MeasurementRecord, Resumed, TrialResult
from perfbench.spec.run import TrialSpec

EXPLORED = "explored"
"""What stands in the place of a study's name in the paths of explored trials."""

_RECORD: TypeAdapter[Measurement | Resumed] = TypeAdapter(MeasurementRecord)


class Failure(Spec):
    """Why one rank ended with an error. Stored as ``failure_rank_<r>.json``."""

    attempt: int
    rank: int
    reason: FailureReason
    error_type: str
    message: str
    exit_code: int
    traceback: str


class History(NamedTuple):
    """What earlier attempts left, in seconds on the clock."""

    reached_s: float = 0.0
    """How far they came since the last resume."""
    lost_s: float = 0.0
    """What was lost before that."""


class TrialFolder:
    """Reads and writes the records of one trial."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, runs_root: Path, trial: TrialSpec) -> TrialFolder:
        """Return the folder that belongs to a trial; nothing is created."""
        if trial.explored is not None:
            return cls(runs_root / trial.submission.name / EXPLORED / trial.workload.name / trial.explored)
        study = f"study_{trial.study}"
        return cls(runs_root / trial.submission.name / study / trial.workload.name / f"trial_{trial.trial}")

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """Where the ranks' own output goes."""
        return self.path / "logs"

    def claim(self, trial: TrialSpec) -> None:
        """Make the folder this trial's, or find that it is already.

        Raises:
            ResultsError: If the folder holds a trial with another configuration; nothing is changed.
            LaunchError: If the folder cannot be written.
        """
        run_file = self.path / "run.json"
        if run_file.exists() and not self._never_began():
            self.check_belongs(trial)
            return
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            write_text_atomically(run_file, trial.to_json())
        except OSError as problem:
            raise LaunchError(
                f"the run folder cannot be written: {problem.strerror}",
                where=str(problem.filename or self.path),
                hint="choose another folder with runs_root=...",
            ) from None

    def check_belongs(self, trial: TrialSpec) -> None:
        """Check that a folder that was claimed is this trial's, or may be; nothing is changed.

        Raises:
            ResultsError: If it holds a trial with another configuration.
        """
        if self._never_began():
            return
        _refuse_other_configuration(self.trial(), trial, self.path / "run.json")

    def _never_began(self) -> bool:
        """Tell whether all that is on record is that a rank failed before there was anything to run (a typing error).

        Who mends the request may have the folder: nothing in it is of the other configuration.
        """
        return not (self.path / "environment.json").exists() and any(self.path.glob("failure_rank_*.json"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the trial while it runs: a second process is refused instead of mixing records.

        Raises:
            LaunchError: If another process runs this trial now.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LaunchError(
                    "another process is running this trial now",
                    where=str(self.path),
                    hint="wait for it, or choose another study=, trial= or runs_root=",
                ) from None
            yield

    def is_running(self) -> bool:
        """Tell whether a process holds the trial now."""
        try:
            with self.locked():
                return False
        except LaunchError:
            return True

    def trial(self) -> TrialSpec:
        """Return what this folder runs."""
        path = self.path / "run.json"
        return TrialSpec.from_json(path.read_bytes(), where=str(path), error=ResultsError)

    def code(self) -> CodeRecord | None:
        """Return which code the trial began with; ``None`` where an earlier version did not record it."""
        path = self.path / "code.json"
        if not path.exists():
            return None
        return CodeRecord.from_json(path.read_bytes(), where=str(path), error=ResultsError)

    def write_code(self, record: CodeRecord) -> None:
        """Record which code the trial runs."""
        write_text_atomically(self.path / "code.json", record.to_json())

    @property
    def sources(self) -> Path:
        """Where the texts of the submission's folder are, as the trial began with them or was last continued with."""
        return self.path / "code"

    def has_begun(self) -> bool:
        """Tell whether anything in this folder was run, so that other code may not just take its place."""
        if self._never_began():
            return False
        return any((self.path / name).exists() for name in ("result.json", "measurements.jsonl", "telemetry.jsonl"))

    def result(self) -> TrialResult | None:
        """Return how the trial ended, ``None`` while it has not."""
        path = self.path / "result.json"
        if not path.exists():
            return None
        return TrialResult.from_json(path.read_bytes(), where=str(path), error=ResultsError)

    def write_result(self, result: TrialResult) -> None:
        """Record the end, once.

        Raises:
            ResultsError: If there is a result already.
        """
        path = self.path / "result.json"
        if path.exists():
            raise ResultsError("the trial has a result already", where=str(path))
        write_text_atomically(path, result.to_json())

    def finished(self) -> TrialResult | None:
        """Return the result of a trial that will not go on; ``None`` without one, or if it is a crash."""
        result = self.result()
        return None if result is None or isinstance(result.outcome, Crashed) else result

    def reopen_after_crash(self) -> None:
        """Set the result of a crashed attempt aside, so that the trial can go on; other results stay."""
        result = self.result()
        if result is not None and self.finished() is None:
            kept = self.path / f"result.attempt_{result.num_attempts}.json"
            (self.path / "result.json").replace(kept)

    def append(self, record: Measurement | Resumed) -> None:
        """Append to the measurements; on the disk when this returns."""
        append_line(self.path / "measurements.jsonl", record.to_json(indent=None))

    def records(self) -> list[Measurement | Resumed]:
        """Return all records as written, oldest first; a line that a crash tore is left out."""
        lines = read_lines(self.path / "measurements.jsonl")
        return [record for line in lines if (record := _record(line)) is not None]

    def measurements(self) -> list[Measurement]:
        """Return the measurements that count: a resume voids earlier ones after the step it went on from."""
        return valid_measurements(self.records())

    def append_telemetry(self, kind: str, values: Mapping[str, object]) -> None:
        """Append something that no score depends on; not forced to the disk."""
        line = json.dumps({"kind": kind, **values}, default=str)
        append_line(self.path / "telemetry.jsonl", line, durable=kind == "started")

    def telemetry(self, kind: str) -> list[dict[str, Any]]:
        """Return the telemetry lines of one kind; one that a crash tore is left out."""
        lines = iterate_lines(self.path / "telemetry.jsonl")
        return [values for line in lines if (values := _telemetry(line, kind)) is not None]

    def num_attempts(self) -> int:
        """Return how often the trial was started."""
        return len(self.telemetry("started"))

    def history(self) -> History:
        """Return how far the attempts came that have ended, by their pulses, and what was lost before."""
        resumes = [record for record in self.records() if isinstance(record, Resumed)]
        last_resumed = max((record.attempt for record in resumes), default=1)
        attempt, reached_s = 0, 0.0
        for line in iterate_lines(self.path / "telemetry.jsonl"):
            if (started := _telemetry(line, "started")) is not None:
                attempt = started["attempt"]
            elif attempt >= last_resumed and (pulse := _telemetry(line, "pulse")) is not None:
                reached_s = max(reached_s, pulse["submission_time_s"])
        return History(reached_s=reached_s, lost_s=sum(record.lost_s for record in resumes))

    def write_environment(self, environment: Environment) -> None:
        """Record what the latest attempt runs on; what an earlier one ran on is kept aside."""
        path = self.path / "environment.json"
        if path.exists() and (earlier := self.environment()).attempt < environment.attempt:
            write_text_atomically(self.path / f"environment.attempt_{earlier.attempt}.json", earlier.to_json())
        write_text_atomically(path, environment.to_json())

    def environment(self) -> Environment:
        """Return what the latest attempt ran on.

        Raises:
            ResultsError: If the record is damaged.
        """
        path = self.path / "environment.json"
        return Environment.from_json(path.read_bytes(), where=str(path), error=ResultsError)

    def tracking_id(self) -> str:
        """Return the name by which dashboards know this trial: made up once, and kept when the trial is requeued."""
        path = self.path / "tracking.json"
        if not path.exists():
            write_text_atomically(path, json.dumps({"schema_version": 1, "run_id": secrets.token_hex(6)}))
        return str(json.loads(path.read_text())["run_id"])

    def write_failure(self, failure: Failure) -> None:
        """Record why a rank failed."""
        write_text_atomically(self.path / f"failure_rank_{failure.rank}.json", failure.to_json())

    def failures(self, *, attempt: int) -> list[Failure]:
        """Return the failures of an attempt, by rank."""
        paths = sorted(self.path.glob("failure_rank_*.json"))
        found = [Failure.from_json(path.read_bytes(), where=str(path), error=ResultsError) for path in paths]
        return [failure for failure in found if failure.attempt == attempt]


def _record(line: str) -> Measurement | Resumed | None:
    try:
        return _RECORD.validate_json(line)
    except ValidationError:
        return None


def _telemetry(line: str, kind: str) -> dict[str, Any] | None:
    """Return the values of a telemetry line; ``None`` if it is of another kind, or torn."""
    if not line.startswith(f'{{"kind": "{kind}"'):
        return None
    try:
        values: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return values


def valid_measurements(records: list[Measurement | Resumed]) -> list[Measurement]:
    """Return the measurements that count, by step."""
    valid: list[Measurement] = []
    for record in records:
        if isinstance(record, Resumed):
            valid = [measurement for measurement in valid if measurement.step <= record.from_step]
        else:
            valid.append(record)
    return valid


def _refuse_other_configuration(existing: TrialSpec, asked: TrialSpec, run_file: Path) -> None:
    if existing.identity() == asked.identity():
        return
    differing = _differences(existing.model_dump(mode="json"), asked.model_dump(mode="json"))
    shown = "".join(f"\n  - {line}" for line in differing[:8])
    raise ResultsError(
        f"the folder holds a trial with another configuration (there -> asked):{shown}",
        where=str(run_file),
        hint="--fresh sets it aside and starts anew; or choose another study=, trial= or runs_root=",
    )


def _differences(there: Any, asked: Any, path: str = "") -> list[str]:  # noqa: ANN401 - plain data
    """List dotted paths whose values differ, where data is left out."""
    if isinstance(there, dict) and isinstance(asked, dict):
        return [
            line
            for key in there.keys() | asked.keys()
            if key not in ("data_root", "trace_steps")
            for line in _differences(there.get(key), asked.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if there == asked else [f"{path}: {json.dumps(there)} -> {json.dumps(asked)}"]


def is_writable(folder: Path) -> bool:
    """Tell whether files can be created in ``folder`` or in its nearest existing parent."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return os.access(existing, os.W_OK | os.X_OK)
