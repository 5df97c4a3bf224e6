"""A finished trial as a trial to run again: the same configuration, evaluated after the recorded steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from perfbench.errors import LaunchError, ResultsError
from perfbench.launch.changed_code import CodeNow
from perfbench.results.files import write_text_atomically
from perfbench.results.reader import read_trial
from perfbench.results.store import TrialFolder
from perfbench.results.trials import Complaint, RecordedTrial
from perfbench.spec.replay import Replay
from perfbench.spec.run import AtStepsSchedule, TrialSpec

_FILES_SHOWN = 8


class ReplayPlan(NamedTuple):
    """What to run, and where."""

    recorded: RecordedTrial
    trial: TrialSpec
    runs_root: Path
    """Inside of the recorded trial's folder: no reader looks for trials there."""
    is_same_code: bool


def plan_replay(path: Path, *, fraction: float, data_root: Path | None, other_code: bool) -> ReplayPlan:
    """Plan to run a finished trial again.

    Args:
        path: The trial's folder.
        fraction: Of its evaluations, the first ones: what is enough to see.
        data_root: Where the data is now, if not where it was.
        other_code: Whether it may be run with other code than it was.

    Raises:
        ResultsError: If there is no finished trial, or it ran other code than is here.
        LaunchError: If the fraction is none.
    """
    if not 0 < fraction <= 1:
        raise LaunchError(f"{fraction} is no fraction", where="--fraction", hint="more than 0, 1 at most")
    recorded = _finished_trial(path)
    differences = _code_differences(recorded)
    if differences and not other_code:
        commit = recorded.environment.commit if recorded.environment else None
        listed = "".join(f"\n  - {line}" for line in differences[:_FILES_SHOWN])
        more = f"\n  - and {len(differences) - _FILES_SHOWN} more" if len(differences) > _FILES_SHOWN else ""
        raise ResultsError(
            f"this trial ran other code than is here:{listed}{more}",
            where=str(path),
            hint=f"check out commit {commit or 'that it ran'}; --other-code runs it all the same, on record",
        )
    steps = tuple(one.step for one in recorded.measurements)
    chosen = steps[: math.ceil(fraction * len(steps))]
    update: dict[str, object] = {
        "evaluation": AtStepsSchedule(steps=chosen),
        "trace_steps": tuple(step for step in recorded.spec.trace_steps if step <= chosen[-1]),
    }
    if data_root is not None:
        update["data_root"] = str(data_root.resolve())
    trial = recorded.spec.model_copy(update=update)
    return ReplayPlan(recorded, trial, path.resolve() / "replay" / f"to_step_{chosen[-1]}", not differences)


def _finished_trial(path: Path) -> RecordedTrial:
    complaints: list[Complaint] = []
    if not (path / "run.json").exists():
        raise ResultsError("no trial is here", where=str(path), hint="name the folder with its run.json")
    recorded = read_trial(path, complaints)
    if recorded is None or complaints:
        raise ResultsError(f"the record is damaged: {complaints[0]}", where=str(path))
    if recorded.result is None:
        raise ResultsError("the trial is not finished", where=str(path), hint="the command that began it continues it")
    if not recorded.measurements or recorded.environment is None:
        raise ResultsError("the trial has no evaluation on record: there is nothing to have again", where=str(path))
    return recorded


def _code_differences(recorded: RecordedTrial) -> list[str]:
    if recorded.code is None:
        return ["the folder does not say which code it ran: an earlier version of perfbench made it"]
    return recorded.code.latest.differences(CodeNow().of(recorded.spec))


def traced_digests(folder: TrialFolder) -> dict[int, dict[str, str]]:
    """Return what was traced, by step; of a step that was done twice the last."""
    names = ("parameters", "state", "loss", "example_ids")
    lines = folder.telemetry("trace")
    return {int(line["at_step"]): {name: str(line[name]) for name in names if name in line} for line in lines}


def record_replay(folder: TrialFolder, replay: Replay) -> Path:
    """Write what a replay has shown beside the records of the trial; a later one takes its place. Return the file."""
    path = folder.path / "replay.json"
    write_text_atomically(path, replay.to_json())
    return path
