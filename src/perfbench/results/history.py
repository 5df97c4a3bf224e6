"""What earlier attempts at a trial left: how far they came, what was lost, and whose doing their end was."""

from __future__ import annotations

from typing import NamedTuple

from perfbench.results.store import TrialFolder
from perfbench.spec.result import FailureReason, Resumed


class History(NamedTuple):
    """What earlier attempts left, in seconds on the clock."""

    reached_s: float = 0.0
    """How far they came since the last resume."""
    lost_s: float = 0.0
    """What was lost before that."""
    failed: bool = False
    """Whether one of them since then failed by itself: it was neither told to stop nor ended from outside."""


def history_of(folder: TrialFolder) -> History:
    """Read it from the records of a trial whose next attempt has been noted as started."""
    resumes = [record for record in folder.records() if isinstance(record, Resumed)]
    last_resumed = max((record.attempt for record in resumes), default=1)
    attempt, reached_s = 0, 0.0
    for kind, values in folder.telemetry_of("started", "pulse"):
        if kind == "started":
            attempt = values["attempt"]
        elif attempt >= last_resumed:
            reached_s = max(reached_s, values["submission_time_s"])
    return History(
        reached_s=reached_s,
        lost_s=sum(record.lost_s for record in resumes),
        failed=any(_has_failed(folder, earlier) for earlier in range(last_resumed, attempt)),
    )


def _has_failed(folder: TrialFolder, attempt: int) -> bool:
    """Tell whether an attempt ended by an error of its own, its trainer's or its referee's: either may be a choice."""
    ends = [line for line in folder.telemetry("trainer_ended") if line["attempt"] == attempt]
    if any(not line.get("is_echo") for line in ends):
        return True
    if ends and len({line["rank"] for line in ends}) == ends[0]["num_ranks"]:
        return True  # an echo needs a source: of those who all say that they lost another, one did it
    crash = folder.crash_of(attempt)
    return crash is not None and crash.reason is not FailureReason.NODE and folder.has_trained(attempt=attempt)
