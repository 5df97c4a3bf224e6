"""What a trial without a result ended with: the failure that is its cause, and the record of it."""

from __future__ import annotations

from collections.abc import Sequence

from perfbench.errors import ExitCode
from perfbench.results.store import Failure, TrialFolder
from perfbench.spec.result import Crashed, FailureReason, PhaseTimes, TrialResult

KILLED = "killed (SIGKILL): out of memory or killed by hand"
"""All that can be known of a process that ended so."""
STOPPED = 75
"""A rank's exit code when it was told to stop and has saved: Python's own for any error is 1."""


def failure_seen(
    attempt: int, reason: FailureReason, message: str, *, rank: int = 0, error_type: str = "Ended"
) -> Failure:
    """Return a failure that the launcher saw, where the rank itself could not tell."""
    return Failure(
        attempt=attempt,
        rank=rank,
        reason=reason,
        error_type=error_type,
        message=message,
        exit_code=int(ExitCode.RUN_FAILED),
        traceback="",
    )


def first_cause(failures: Sequence[Failure]) -> Failure | None:
    """Return the failure that is most likely the cause: a lost connection is only its echo on other ranks."""
    causes = [failure for failure in failures if failure.reason is not FailureReason.NODE]
    return next(iter(causes or failures), None)


def crash_result(folder: TrialFolder, failure: Failure, attempt: int) -> TrialResult:
    """Return the result that says so; nothing is written."""
    trial = folder.trial()
    measurements = folder.measurements()
    last = measurements[-1] if measurements else None
    outcome = Crashed(
        reason=failure.reason,
        rank=failure.rank,
        error_type=failure.error_type,
        message=failure.message,
        step=last.step if last else 0,
    )
    return TrialResult(
        trial_identity=trial.identity(),
        outcome=outcome,
        scorable=trial.is_scorable(),
        num_attempts=attempt,
        num_steps=last.step if last else 0,
        num_measurements=len(measurements),
        phases=last.phases if last else PhaseTimes(),
        lost_s=folder.history().lost_s,
        num_recompiles_after_warmup=0,
        best_metric=None,
    )
