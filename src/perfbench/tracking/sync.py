"""Replaying a trial folder into a dashboard: the mirror's own code over records that have stopped growing."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from perfbench.errors import LaunchError, PerfbenchError
from perfbench.results.store import TrialFolder
from perfbench.spec.run import TrackingSpec
from perfbench.tracking.mirror import mirror, only_mirror, open_destination, reason_of

_PATIENCE_S = 120.0


def sync_trial(folder: TrialFolder, tracking: TrackingSpec) -> int:
    """Send what the dashboard does not hold, and return how many rows that were: 0 when it holds all.

    Raises:
        LaunchError: If another process mirrors the trial now, or the service does not take it.
        ResultsError: If the trial's own facts are damaged.
    """
    ended = threading.Event()
    ended.set()
    with only_mirror(folder), tempfile.TemporaryDirectory(prefix="perfbench_sync_") as scratch:
        folder.trial()
        is_running = folder.is_running()
        try:
            destination = open_destination(folder, tracking, scratch=Path(scratch), patience_s=_PATIENCE_S)
            return mirror(folder, destination, ended, holds_back=is_running)
        except PerfbenchError:
            raise
        except Exception as problem:  # noqa: BLE001 - W&B raises many classes
            if isinstance(problem, OSError) and problem.filename is not None:
                raise LaunchError.of_file(problem, what="not sent", where=str(folder.path)) from None
            hint = "the records are whole; sync again when it can be reached"
            raise LaunchError(f"not sent: {reason_of(problem)}", where=str(folder.path), hint=hint) from None
