"""Where ranks that hang leave their stacks, and what a launcher makes of it. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from perfbench.launch.ending import failure_seen
from perfbench.results.store import Failure, TrialFolder
from perfbench.spec.result import FailureReason

WATCH_PERIOD_S = 2.0
"""How often a rank looks at itself."""
STACKS_GRACE_S = 10.0
"""How long the other ranks of a hanging trial get to dump their stacks too."""


def stacks_file(folder: TrialFolder, *, attempt: int, rank: int) -> Path:
    """Return where a rank writes the stacks of all its threads when it hangs."""
    return folder.logs / f"stacks_attempt_{attempt}_rank_{rank}.txt"


def trainers_stacks_file(folder: TrialFolder, *, attempt: int, rank: int) -> Path:
    """Return where a rank's trainer does: it may write there whenever it likes."""
    return folder.logs / f"stacks_attempt_{attempt}_trainer_{rank}.txt"


def any_stacks(folder: TrialFolder, attempt: int) -> bool:
    """Tell whether a rank has made no progress for too long, by its referee."""
    return any(_size_bytes(path) for path in folder.logs.glob(f"stacks_attempt_{attempt}_rank_*.txt"))


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # its rank has just ended, and removed it


def hang_failure(folder: TrialFolder, attempt: int) -> Failure:
    """Return the failure of a trial that hung."""
    what = f"no step and no change of phase in time; stacks of all ranks are in {folder.logs}"
    return failure_seen(attempt, FailureReason.HANG, what)
