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
        replay.json          what running it again has shown; replay/ holds the trials that did
        tracking.json        the trial's name on dashboards, if it was ever mirrored
        failure_rank_<r>.json, logs/
        checkpoints/         what the referee knows at a step: an index of the states
        states/              what trainers saved: the only folder that a submission may write
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from perfbench.errors import LaunchError, ResultsError
from perfbench.results.configurations import refuse_other_configuration
from perfbench.results.files import (
    MOST_FACT_BYTES,
    append_line,
    create_text,
    digest_of_line,
    iterate_lines,
    read_lines,
    read_regular_file,
    write_text_atomically,
)
from perfbench.results.locks import held, is_held
from perfbench.spec.base import Spec
from perfbench.spec.code import CodeRecord
from perfbench.spec.environment import Environment
from perfbench.spec.records import counted_measurements
from perfbench.spec.result import Crashed, FailureReason, Measurement, MeasurementRecord, Resumed, TrialResult
from perfbench.spec.run import TrialSpec

EXPLORED = "explored"
"""What stands in the place of a study's name in the paths of explored trials."""

LOCK_NAME = ".lock"
_BEGUN = ("telemetry.jsonl", "measurements.jsonl", "environment.json", "result.json", "lease")
"""What shows that a trial was started."""
_RECORD: TypeAdapter[Measurement | Resumed] = TypeAdapter(MeasurementRecord)
_FactT = TypeVar("_FactT", bound=Spec)


class Failure(Spec):
    """Why one rank ended with an error. Stored as ``failure_rank_<r>.json``."""

    attempt: int
    rank: int
    reason: FailureReason
    error_type: str
    message: str
    exit_code: int
    traceback: str


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
    def states(self) -> Path:
        """Where trainers save their states: the only folder here that a submission may write."""
        return self.path / "states"

    def drop_checkpoints(self) -> None:
        """Remove checkpoints and states: a finished trial needs neither."""
        for folder in (self.checkpoints, self.states):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def logs(self) -> Path:
        """Where the ranks' own output goes."""
        return self.path / "logs"

    def claim(self, trial: TrialSpec) -> bool:
        """Make the folder this trial's, or find that it is already; return whether this call has made it.

        Of several processes that claim at once, with whatever configurations, exactly one makes it.

        Raises:
            ResultsError: If the folder holds a trial with another configuration; nothing is changed.
            LaunchError: If the folder cannot be written, or another process runs what is in it.
        """
        run_file = self.path / "run.json"
        try:
            if not run_file.exists():
                self.logs.mkdir(parents=True, exist_ok=True)
                if create_text(run_file, trial.to_json()):
                    return True
            if self._never_began():
                self._take_over(trial)
                return False
        except OSError as problem:
            raise LaunchError.of_file(
                problem,
                what="the run folder cannot be written",
                where=str(self.path),
                hint="choose another folder with runs_root=...",
            ) from None
        self.check_belongs(trial)
        return False

    def _take_over(self, trial: TrialSpec) -> None:
        """Make a folder in which nothing has begun this trial's, while nobody else uses it."""
        with self.locked():
            if not self._never_began():  # another process was faster
                self.check_belongs(trial)
                return
            write_text_atomically(self.path / "run.json", trial.to_json())
            for failure in self.path.glob("failure_rank_*.json"):  # from now on it is somebody's
                failure.unlink()

    def give_up(self) -> None:
        """Remove a folder that was claimed, unless something has begun in it, or is about to.

        Raises:
            LaunchError: If another process runs the trial.
        """
        with self.locked():
            if not any((self.path / name).exists() for name in _BEGUN):
                shutil.rmtree(self.path)

    def check_belongs(self, trial: TrialSpec) -> None:
        """Check that a folder that was claimed is this trial's, or may be; nothing is changed.

        Raises:
            ResultsError: If it holds a trial with another configuration.
        """
        if self._never_began():
            return
        refuse_other_configuration(self.trial(), trial, self.path / "run.json")

    def _never_began(self) -> bool:
        """Tell whether all that is on record is that a rank failed before there was anything to run (a typing error).

        Who mends the request may have the folder: nothing in it is of the other configuration.
        """
        return not (self.path / "environment.json").exists() and any(self.path.glob("failure_rank_*.json"))

    @contextmanager
    def locked(self, *, patience_s: float = 0.0) -> Iterator[int]:
        """Hold the trial while it runs: a second process is refused instead of mixing records.

        Yields the descriptor of the lock: children that inherit it hold the trial too, until the last one has ended.

        Args:
            patience_s: How long to wait for another process to end.

        Raises:
            LaunchError: If another process runs this trial now.
        """
        hint = "wait for it, or choose another study=, trial= or runs_root="
        busy = "another process is running this trial now"
        with held(self.path / LOCK_NAME, busy=busy, hint=hint, patience_s=patience_s) as descriptor:
            yield descriptor

    def is_running(self) -> bool:
        """Tell whether a process holds the trial now; nothing is changed, and nobody is disturbed."""
        return is_held(self.path / LOCK_NAME)

    def trial(self) -> TrialSpec:
        """Return what this folder runs.

        Raises:
            ResultsError: If the record is damaged, or cannot be read.
        """
        return _read_fact(TrialSpec, self.path / "run.json")

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
        return _read_fact(TrialResult, path) if path.exists() else None

    def write_result(self, result: TrialResult) -> TrialResult:
        """Record the end, once; return it as it was recorded, chained to the measurements.

        Raises:
            ResultsError: If there is a result already.
        """
        path = self.path / "result.json"
        if path.exists():
            raise ResultsError("the trial has a result already", where=str(path))
        chained = result.model_copy(update={"chain": self.chain()})
        write_text_atomically(path, chained.to_json())
        return chained

    def finished(self) -> TrialResult | None:
        """Return the result of a trial that will not go on; ``None`` without one, or if it is a crash."""
        result = self.result()
        return None if result is None or isinstance(result.outcome, Crashed) else result

    def crash_of(self, attempt: int) -> Crashed | None:
        """Return how an earlier attempt crashed; ``None`` if it did not, or nobody saw it."""
        path = self.path / f"result.attempt_{attempt}.json"
        outcome = _read_fact(TrialResult, path).outcome if path.exists() else None
        return outcome if isinstance(outcome, Crashed) else None

    def reopen_after_crash(self) -> None:
        """Set the result of a crashed attempt aside, so that the trial can go on; other results stay."""
        result = self.result()
        if result is not None and self.finished() is None:
            kept = self.path / f"result.attempt_{result.num_attempts}.json"
            (self.path / "result.json").replace(kept)

    def append(self, record: Measurement | Resumed) -> None:
        """Append to the measurements, chained to the line before; on the disk when this returns."""
        chained = record.model_copy(update={"chain": self.chain()})
        append_line(self.path / "measurements.jsonl", chained.to_json(indent=None))

    def chain(self) -> str:
        """Return the digest of the last record's line of the measurements, of nothing where there is none."""
        lines = [line for line in read_lines(self.path / "measurements.jsonl") if _record(line) is not None]
        return digest_of_line(lines[-1] if lines else "")

    def records(self) -> list[Measurement | Resumed]:
        """Return all records as written, oldest first; a line that a crash tore is left out."""
        lines = read_lines(self.path / "measurements.jsonl")
        return [record for line in lines if (record := _record(line)) is not None]

    def measurements(self) -> list[Measurement]:
        """Return the measurements that count (``spec/records.py``)."""
        return counted_measurements(self.records())

    def append_telemetry(self, kind: str, values: Mapping[str, object], *, durable: bool = False) -> None:
        """Append something that no score depends on; forced to the disk only where a later attempt relies on it."""
        told = {"kind": kind, **values} | {"kind": kind}  # nothing told passes for another kind
        line = json.dumps(told, default=str)
        append_line(self.path / "telemetry.jsonl", line, durable=durable or kind == "started")

    def telemetry(self, kind: str) -> list[dict[str, Any]]:
        """Return the telemetry lines of one kind; one that a crash tore is left out."""
        return [values for _, values in self.telemetry_of(kind)]

    def telemetry_of(self, *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the telemetry lines of some kinds, each with its kind, in their order."""
        for line in iterate_lines(self.path / "telemetry.jsonl"):
            for kind in kinds:
                if (values := _telemetry(line, kind)) is not None:
                    yield kind, values

    def num_attempts(self) -> int:
        """Return how often the trial was started."""
        return len(self.telemetry("started"))

    def has_trained(self, *, attempt: int) -> bool:
        """Tell whether an attempt came so far that it trained, by its pulses."""
        current = 0
        for kind, values in self.telemetry_of("started", "pulse"):
            if kind == "started":
                current = values["attempt"]
            elif current == attempt and values.get("phase") == "training":
                return True
        return False

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
        return _read_fact(Environment, self.path / "environment.json")

    def tracking_id(self) -> str:
        """Return the name by which dashboards know this trial: made up once, and kept when the trial is requeued."""
        path = self.path / "tracking.json"
        if not path.exists():
            write_text_atomically(path, json.dumps({"schema_version": 1, "run_id": secrets.token_hex(6)}))
        try:
            return str(json.loads(read_regular_file(path, max_bytes=MOST_FACT_BYTES))["run_id"])
        except (ValueError, KeyError, TypeError):
            raise ResultsError("this is no tracking record", where=str(path), hint="remove it") from None

    def write_failure(self, failure: Failure) -> None:
        """Record why a rank failed."""
        write_text_atomically(self.path / f"failure_rank_{failure.rank}.json", failure.to_json())

    def failures(self, *, attempt: int) -> list[Failure]:
        """Return the failures of an attempt, by rank."""
        paths = sorted(self.path.glob("failure_rank_*.json"))
        found = [_read_fact(Failure, path) for path in paths]
        return [failure for failure in found if failure.attempt == attempt]


def _read_fact(kind: type[_FactT], path: Path) -> _FactT:
    try:
        text = read_regular_file(path, max_bytes=MOST_FACT_BYTES)
    except OSError as problem:
        raise ResultsError.of_file(problem, what="the record cannot be read", where=str(path)) from None
    return kind.from_json(text, where=str(path), error=ResultsError)


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
    except (ValueError, RecursionError):
        return None
    return values


def is_writable(folder: Path) -> bool:
    """Tell whether files can be created in ``folder`` or in its nearest existing parent."""
    existing = folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    except OSError:  # a folder on the way may not be entered
        return False
