"""A trial in this very process, on one rank: breakpoints and profilers work."""

from __future__ import annotations

from perfbench.launch.attempt import Ended, bad_rank, why_no_result, with_next_attempt
from perfbench.launch.worker import StopRequest, run_rank
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.spec.run import TrialSpec


def run_here(trial: TrialSpec, folder: TrialFolder) -> TrialResult:
    """Run or continue a trial in this process; a finished one is returned as it is.

    Raises:
        PerfbenchError: As :func:`perfbench.launch.local.run_trial`.
    """

    def run(attempt: int) -> TrialResult:
        stop = StopRequest()
        code = run_rank(folder, attempt=attempt, stop_requested=stop)
        if (result := folder.result()) is not None:
            return result
        raise why_no_result(folder, attempt, Ended((code,), bad_rank((code,))), was_interrupted=stop())

    return with_next_attempt(trial, folder, run)
