"""Reads trial folders strictly, and reads all of them: what is wrong with one never hides another.

Every complaint names its file. Only two things are tolerated, because the writer can leave them behind when it is
killed: a last line without its end, and such a line closed by the next attempt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from perfbench.errors import PerfbenchError, ResultsError
from perfbench.results.files import read_regular_file
from perfbench.results.trials import Complaint, Reading, RecordedTrial, without_duplicates
from perfbench.results.walk import walk
from perfbench.spec.base import Spec
from perfbench.spec.code import CodeRecord
from perfbench.spec.environment import Environment
from perfbench.spec.records import counted_measurements
from perfbench.spec.replay import Replay
from perfbench.spec.result import Measurement, MeasurementRecord, Resumed, TrialResult
from perfbench.spec.run import TrialSpec

_FactT = TypeVar("_FactT", bound=Spec)
_RECORD: TypeAdapter[Measurement | Resumed] = TypeAdapter(MeasurementRecord)
_NEVER_HOLD_TRIALS = frozenset({"checkpoints", "states", "logs"})
_MOST_FACT_BYTES = 4 << 20
"""Of run.json, result.json and environment.json, which have some kilobytes."""
_MOST_RECORD_BYTES = 256 << 20
"""Of the measurements: those of 200,000 evaluations."""
_LARGEST_STEP = 2**62
"""A step beyond this is a damaged record: it fits no 64-bit column."""


def read_trials(paths: Sequence[Path]) -> Reading:
    """Read every trial folder under the paths.

    Raises:
        ResultsError: If one of the paths does not exist.
    """
    reading = Reading()
    found: list[RecordedTrial] = []
    for folder in trial_folders(paths, reading.complaints):
        trial = read_trial(folder, reading.complaints)
        if trial is None:
            continue
        if _was_refused(trial):
            what = "no trial: a rank refused what was asked for before anything ran"
            reading.complaints.append(Complaint(folder, what, is_harmless=True))
        else:
            found.append(trial)
    reading.trials = without_duplicates(found, reading.complaints)
    return reading


def trial_folders(paths: Sequence[Path], complaints: list[Complaint]) -> Iterator[Path]:
    """Yield every trial folder under the paths once, in order of name; links are followed, loops are not.

    Raises:
        ResultsError: If one of the paths does not exist.
    """
    for folder, folders, files in walk(paths, complaints):
        if "run.json" in files or "run.json" in folders:  # a folder of that name is reported when it is read
            folders.clear()
            yield folder
        elif "measurements.jsonl" in files:
            folders.clear()
            complaints.append(Complaint(folder, "measurements without run.json: the trial cannot be read"))
        else:
            folders[:] = [name for name in folders if name not in _NEVER_HOLD_TRIALS]


def _was_refused(trial: RecordedTrial) -> bool:
    """Tell whether all that there is of a trial is why it could not begin."""
    is_empty = not trial.records and trial.environment is None and trial.result is None
    return is_empty and any(trial.path.glob("failure_rank_*.json"))


def read_trial(folder: Path, complaints: list[Complaint]) -> RecordedTrial | None:
    """Read one trial folder; ``None`` where its ``run.json`` does not say what it is."""
    spec = _read_fact(TrialSpec, folder / "run.json", complaints)
    if spec is None:
        return None
    records = _read_records(folder / "measurements.jsonl", complaints)
    return RecordedTrial(
        path=folder,
        spec=spec,
        records=tuple(records),
        measurements=tuple(_counted(records, folder, complaints)),
        result=_read_fact(TrialResult, folder / "result.json", complaints),
        environment=_read_fact(Environment, folder / "environment.json", complaints),
        earlier_environments=tuple(_earlier_environments(folder, records, complaints)),
        code=_read_fact(CodeRecord, folder / "code.json", complaints),
        replay=_read_fact(Replay, folder / "replay.json", complaints),
    )


def _earlier_environments(
    folder: Path, records: Sequence[Measurement | Resumed], complaints: list[Complaint]
) -> Iterator[Environment]:
    """Yield what earlier attempts ran on, of whose steps some count: no later attempt went back to where they began."""
    resumes = [record for record in records if isinstance(record, Resumed)]
    starts = {1: 0} | {record.attempt: record.from_step for record in resumes}
    for attempt, start in sorted(starts.items()):
        later = [record.from_step for record in resumes if record.attempt > attempt]
        if later and min(later) > start:
            environment = _read_fact(Environment, folder / f"environment.attempt_{attempt}.json", complaints)
            if environment is not None:
                yield environment


def _read_fact(kind: type[_FactT], path: Path, complaints: list[Complaint]) -> _FactT | None:
    try:
        content = read_regular_file(path, max_bytes=_MOST_FACT_BYTES)
        return kind.from_json(content, where=path.name, error=ResultsError)
    except FileNotFoundError:
        if path.is_symlink():
            complaints.append(Complaint(path, "a link to nowhere"))
    except OSError as problem:
        complaints.append(Complaint(path, f"cannot be read: {problem.strerror or problem}"))
    except PerfbenchError as problem:
        complaints.append(Complaint(path, str(problem)))
    return None


def _read_records(path: Path, complaints: list[Complaint]) -> list[Measurement | Resumed]:
    """Return every record that can be read, oldest first."""
    try:
        text = read_regular_file(path, max_bytes=_MOST_RECORD_BYTES).decode(errors="replace")
    except FileNotFoundError:
        if path.is_symlink():
            complaints.append(Complaint(path, "a link to nowhere"))
        return []
    except OSError as problem:
        complaints.append(Complaint(path, f"cannot be read: {problem.strerror or problem}"))
        return []
    complete, _, torn = text.rpartition("\n")
    records: list[Measurement | Resumed] = []
    unreadable: tuple[int, str] | None = None  # a line whose meaning depends on the line after it
    for number, line in enumerate(complete.split("\n"), start=1):
        if not line.strip():
            continue
        record = _parsed(line)
        if unreadable is not None:
            was_torn = isinstance(record, Resumed)  # the next attempt closes a torn line, then says so
            complaints.append(_unreadable_line(path, *unreadable, was_torn=was_torn))
            unreadable = None
        if isinstance(record, str):
            unreadable = (number, record)
        else:
            records.append(record)
    if unreadable is not None:
        complaints.append(_unreadable_line(path, *unreadable, was_torn=False))
    if torn.strip():
        complaints.append(Complaint(path, "the last line is torn and was left out", is_harmless=True))
    return records


def _parsed(line: str) -> Measurement | Resumed | str:
    """Return the record, or what is wrong with the line."""
    try:
        record = _RECORD.validate_json(line)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    if isinstance(record, Measurement) and record.step > _LARGEST_STEP:
        return f"step: {record.step} is no count of steps"
    return record


def _unreadable_line(path: Path, number: int, what: str, *, was_torn: bool) -> Complaint:
    if was_torn:
        return Complaint(path, f"line {number} was torn when an attempt ended, and was left out", is_harmless=True)
    return Complaint(path, f"line {number} is not a record and was left out: {what}")


def _counted(records: list[Measurement | Resumed], folder: Path, complaints: list[Complaint]) -> list[Measurement]:
    """Return the measurements that count; complain of a step that one attempt measured twice."""
    seen: set[tuple[int, int]] = set()
    for record in records:
        if isinstance(record, Measurement):
            if (record.attempt, record.step) in seen:
                what = f"step {record.step} was measured twice in attempt {record.attempt}; the first counts"
                complaints.append(Complaint(folder / "measurements.jsonl", what))
            seen.add((record.attempt, record.step))
    return counted_measurements(records)
