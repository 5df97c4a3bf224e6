"""What a trial without a result ended with: the failure that is its cause, and the record of it."""

from __future__ import annotations

from collections.abc import Sequence

from perfbench.errors import ExitCode
from perfbench.results.history import history_of
from perfbench.results.store import Failure, TrialFolder
from perfbench.spec.result import Crashed, FailureReason, PhaseTimes, TrialResult

KILLED = "killed (SIGKILL): out of memory or killed by hand"
"""All that can be known of a process that ended so."""
STOPPED = 75
"""A rank's exit code when it was told to stop and has saved: Python's own for any error is 1."""

_PASSING = frozenset({FailureReason.NODE, FailureReason.ENGINE})
"""Reasons of which some pass by themselves."""


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


def stopped_as_told(folder: TrialFolder, attempt: int) -> None:
    """Note that the ranks of an attempt were told to stop, and have saved: no exit code says that on every cluster."""
    folder.append_telemetry("stopped", {"attempt": attempt})


def was_told_to_stop(folder: TrialFolder, attempt: int) -> bool:
    """Tell whether the ranks of an attempt have said that they were told to stop."""
    return any(line["attempt"] == attempt for line in folder.telemetry("stopped"))


def failed_at_start(folder: TrialFolder, failure: Failure) -> bool:
    """Tell whether an attempt failed before it trained, of something that may be otherwise the next time.

    A port, a node, a connection or a disk; not the request, the data, the submission or the memory.
    """
    if failure.exit_code == ExitCode.IMPOSSIBLE_REQUEST or failure.reason not in _PASSING:
        return False
    return not folder.has_trained(attempt=failure.attempt)


def start_failed(folder: TrialFolder) -> bool:
    """Tell whether the last attempt has crashed before it trained, of something that may be otherwise the next time."""
    result, attempt = folder.result(), folder.num_attempts()
    if result is None or not isinstance(outcome := result.outcome, Crashed):
        return False
    return outcome.reason in _PASSING and not folder.has_trained(attempt=attempt)


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
        lost_s=history_of(folder).lost_s,
        num_recompiles_after_warmup=0,
        best_metric=None,
    )
