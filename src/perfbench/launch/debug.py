"""A trial in this very process, on one rank: breakpoints and profilers work."""

from __future__ import annotations

from perfbench.errors import TrialFailedError
from perfbench.launch.worker import StopRequest, run_rank
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.spec.run import TrialSpec


def run_here(trial: TrialSpec, folder: TrialFolder) -> TrialResult:
    """Run or continue a trial in this process.

    Raises:
        TrialFailedError: If it ends without a result.
    """
    folder.claim(trial)
    with folder.locked():
        folder.reopen_after_crash()
        if (done := folder.result()) is not None:
            return done
        attempt = folder.num_attempts() + 1
        folder.append_telemetry("started", {"attempt": attempt})
        run_rank(folder, attempt=attempt, stop_requested=StopRequest())
        result = folder.result()
    if result is None:
        failures = folder.failures(attempt=attempt)
        raise TrialFailedError(failures[0].message if failures else "interrupted", where=str(folder.path))
    return result
