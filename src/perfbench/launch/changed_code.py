"""What a trial began with against what is here now: a result of other code is never shown as this code's.

Asked before anything starts, by whatever starts trials. Three answers are possible where code has changed: refuse and
name the files (the default), set the old trial aside and begin anew, or continue with the changed code, which is on
record and makes the trial unscorable.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from perfbench.errors import LaunchError, ResultsError
from perfbench.registry import code_files, submission_folder
from perfbench.results.folders import copy_texts
from perfbench.results.store import TrialFolder
from perfbench.spec.code import CodeFiles, CodeRecord
from perfbench.spec.run import TrialSpec

_FILES_SHOWN = 8
_UNKNOWN = "the folder does not say which code it ran: an earlier version of perfbench made it"


class OnChangedCode(StrEnum):
    """What to do with a trial that was begun with other code."""

    REFUSE = "refuse"
    START_ANEW = "start_anew"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Begun:
    """A trial that was begun, and what differs from what it began with."""

    folder: TrialFolder
    differences: tuple[str, ...]
    is_finished: bool
    is_worthless: bool
    """It crashed before anything was measured or saved: nothing is lost where mended code begins anew."""


class CodeNow:
    """The code as it is now, read once for each submission and workload."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], CodeFiles] = {}

    def of(self, trial: TrialSpec) -> CodeFiles:
        """Return what a trial would run.

        Raises:
            SubmissionError: If a file cannot be read.
        """
        key = (trial.workload.family, trial.submission.folder or trial.submission.name)
        if key not in self._known:
            self._known[key] = code_files(trial.workload, trial.submission)
        return self._known[key]


def check_code(
    trials: Sequence[TrialSpec],
    runs_root: Path,
    on_change: OnChangedCode,
    *,
    code: CodeNow,
    under_way: Collection[Path] = (),
) -> None:
    """Check that what is on disk of these trials was begun with the code as it is now; nothing is changed.

    Args:
        trials: Asked for.
        runs_root: Where they are.
        on_change: What was asked for in case it was not.
        code: As it is now.
        under_way: Folders of trials that a job runs or is going to run.

    Raises:
        ResultsError: Naming the files that differ, and what can be done.
        LaunchError: If a trial that is to be begun anew is under way.
    """
    if on_change is OnChangedCode.START_ANEW:
        for trial in trials:
            folder = TrialFolder.of(runs_root, trial)
            if folder.path in under_way or (folder.path.exists() and folder.is_running()):
                raise LaunchError(
                    "is under way, so it is not set aside", where=str(folder.path), hint="end it first, or wait for it"
                )
        return
    begun = [one for one in _begun(trials, runs_root, code, under_way) if one.differences and not one.is_worthless]
    if queued := [one for one in begun if one.folder.path in under_way and not one.is_finished]:
        raise _refusal(queued, ["jobs run what was submitted; `perfbench cancel` takes them off the cluster first"])
    if refused := [one for one in begun if one.is_finished or on_change is OnChangedCode.REFUSE]:
        raise _refusal(refused, _ways(refused))


def make_ready(
    trial: TrialSpec, folder: TrialFolder, on_change: OnChangedCode, *, code: CodeNow, tell: Callable[[str], None]
) -> bool:
    """Claim the folder for a trial and record which code it begins or goes on with; return whether the folder is new.

    Args:
        trial: Which is about to run.
        folder: Its own.
        on_change: What to do where it was begun with other code.
        code: As it is now.
        tell: Takes a line for people where something was set aside, or continued with other code.

    Raises:
        ResultsError: If it was begun with other code and that is refused, or has another configuration.
        LaunchError: If the folder cannot be written, or another process runs the trial.
    """
    if on_change is OnChangedCode.START_ANEW and _is_in_the_way(folder, trial):
        tell(f"the earlier trial was set aside: {set_aside(folder)}")
    is_new = folder.claim(trial)
    now = code.of(trial)
    record = folder.code()
    if not folder.has_begun():
        if record is None or record.latest != now:
            _record(trial, folder, CodeRecord(began_with=now))
        return is_new
    begun = _look(folder, now)
    if not begun.differences:
        return is_new
    if begun.is_worthless:
        tell(f"its code was changed since it crashed at its start; that attempt was set aside: {set_aside(folder)}")
        is_new = folder.claim(trial)
        _record(trial, folder, CodeRecord(began_with=now))
        return is_new
    if begun.is_finished or on_change is not OnChangedCode.CONTINUE:
        raise _refusal([begun], _ways([begun]))
    with folder.locked():  # whoever runs it now runs what is on record
        pass
    attempt = folder.num_attempts() + 1
    began_with = CodeFiles(submission={}, workload={}, package={}) if record is None else record.latest
    earlier = record or CodeRecord(began_with=began_with)
    _record(trial, folder, earlier.changed_to(now, attempt=attempt))
    tell("it goes on with changed code, which is on record: never scored")
    return is_new


def _is_in_the_way(folder: TrialFolder, trial: TrialSpec) -> bool:
    """Tell whether a folder holds something that was run, or that is going to be another trial."""
    is_claimed = (folder.path / "run.json").exists()
    return folder.has_begun() or (is_claimed and folder.trial().identity() != trial.identity())


def set_aside(folder: TrialFolder) -> Path:
    """Move a trial's folder to where no reader looks for results unless it is named, and return the new place.

    Raises:
        LaunchError: If a process runs this trial now, or the folder cannot be moved.
    """
    kept = folder.path.parent / ".set_aside"
    with folder.locked():
        try:
            kept.mkdir(exist_ok=True)
            numbers = itertools.count(1)
            free = next(place for n in numbers if not (place := kept / f"{folder.path.name}.{n}").exists())
            return folder.path.rename(free)
        except OSError as problem:
            raise LaunchError(f"cannot be moved: {problem.strerror}", where=str(folder.path)) from None


def _record(trial: TrialSpec, folder: TrialFolder, record: CodeRecord) -> None:
    """Write the record, and copy the texts of the submission's folder in place of an earlier copy."""
    try:
        shutil.rmtree(folder.sources, ignore_errors=True)
        copy_texts(submission_folder(trial.submission), folder.sources)
    except OSError as problem:
        raise LaunchError(
            f"the submission's code cannot be copied: {problem.strerror}", where=str(problem.filename)
        ) from None
    folder.write_code(record)


def _begun(trials: Sequence[TrialSpec], runs_root: Path, code: CodeNow, under_way: Collection[Path]) -> Iterator[Begun]:
    for trial in trials:
        folder = TrialFolder.of(runs_root, trial)
        is_queued = folder.path in under_way and folder.code() is not None
        if (folder.path / "run.json").exists() and (folder.has_begun() or is_queued):
            folder.check_belongs(trial)
            yield _look(folder, code.of(trial))


def _look(folder: TrialFolder, now: CodeFiles) -> Begun:
    record = folder.code()
    differences = (_UNKNOWN,) if record is None else tuple(record.latest.differences(now))
    is_finished = folder.finished() is not None
    has_crashed = folder.result() is not None and not is_finished
    has_left_something = any(folder.checkpoints.glob("step_*.json")) or bool(folder.measurements())
    return Begun(folder, differences, is_finished, is_worthless=has_crashed and not has_left_something)


def _ways(refused: Sequence[Begun]) -> list[str]:
    ways = ["--fresh sets the old trial aside and starts anew"]
    if not all(begun.is_finished for begun in refused):
        ways.append("--continue-with-changed-code goes on (on record, never scored)")
    return ways


def _refusal(refused: Sequence[Begun], ways: Sequence[str]) -> ResultsError:
    first = refused[0]
    files = list(dict.fromkeys(line for begun in refused for line in begun.differences))
    shown = "".join(f"\n  - {line}" for line in files[:_FILES_SHOWN])
    more = f"\n  - and {len(files) - _FILES_SHOWN} more files" if len(files) > _FILES_SHOWN else ""
    others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    state = "finished" if first.is_finished else "begun"
    return ResultsError(
        f"this trial{others} was {state} with other code than is here now:{shown}{more}",
        where=str(first.folder.path),
        hint="; ".join(ways),
    )
