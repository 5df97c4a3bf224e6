"""An attempt at a trial on this machine: what comes before it, and what it means when it leaves no result."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import NamedTuple

from perfbench.errors import ExitCode, PerfbenchError, TrialFailedError, TrialInterruptedError
from perfbench.launch.ending import KILLED, STOPPED, crash_result, failure_seen, first_cause
from perfbench.launch.failure import telling_line
from perfbench.launch.stacks import any_stacks, hang_failure
from perfbench.results.store import Failure, TrialFolder
from perfbench.spec.result import FailureReason, TrialResult
from perfbench.spec.run import TrialSpec

_OWN_FAULTS = frozenset({signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""Signals that a process brings upon itself: nobody has ended it from outside."""


def with_next_attempt(trial: TrialSpec, folder: TrialFolder, run: Callable[[int, int], TrialResult]) -> TrialResult:
    """Claim the folder and make the next attempt; a finished trial is returned as it is.

    Args:
        trial: What to run.
        folder: Of the trial.
        run: Given the attempt's number, and the descriptor of the lock that holds the trial.

    Raises:
        PerfbenchError: If the folder is another trial's, another process runs this one, or as ``run``.
    """
    folder.claim(trial)
    with folder.locked() as lock:
        folder.reopen_after_crash()
        if (done := folder.result()) is not None:
            return done
        attempt = folder.num_attempts() + 1
        folder.append_telemetry("started", {"attempt": attempt})
        return run(attempt, lock)


def give_up_after(folder: TrialFolder, attempt: int, max_attempts: int) -> None:
    """Refuse an attempt beyond the limit: nobody may end and start a trial until a time pleases.

    Raises:
        TrialFailedError: If there were as many without a result.
    """
    if attempt > max_attempts:
        raise TrialFailedError(
            f"{attempt - 1} attempts have brought no result (cluster.max_attempts)",
            where=str(folder.path),
            hint="--fresh sets them aside and starts anew",
        )


class Ended(NamedTuple):
    """How the ranks of an attempt ended."""

    exit_codes: tuple[int, ...]
    """By rank; negative for a signal."""
    first_bad: int | None
    """The rank that was the first to end badly, of several at once one that a signal ended."""


def bad_rank(exit_codes: Sequence[int | None]) -> int | None:
    """Return the rank of those that have ended badly whose end explains most: a signal more than an exit code."""
    bad = [(code >= 0, rank) for rank, code in enumerate(exit_codes) if code not in (None, 0, STOPPED)]
    return min(bad)[1] if bad else None


def why_no_result(folder: TrialFolder, attempt: int, ended: Ended, *, was_interrupted: bool) -> PerfbenchError:
    """Return the error that explains why there is no result, and record a crash as such.

    Args:
        folder: Of the trial.
        attempt: Which one ended.
        ended: How.
        was_interrupted: Whether the launcher was told to stop: ranks that did not listen yet then end by the signal.
    """
    failures = folder.failures(attempt=attempt)
    refusals = [failure for failure in failures if failure.exit_code == ExitCode.IMPOSSIBLE_REQUEST]
    if refusals:
        return PerfbenchError(refusals[0].message)
    hung = hang_failure(folder, attempt) if any_stacks(folder, attempt) else None
    if not failures and hung is None and (was_interrupted or ended.first_bad is None):
        return TrialInterruptedError(
            "interrupted; everything up to the last step is saved",
            where=str(folder.path),
            hint="the same command continues it",
        )
    cause = first_cause(failures)
    if ended.first_bad is not None and (cause is None or cause.reason is FailureReason.NODE):
        code = ended.exit_codes[ended.first_bad]
        if cause is None or code < 0:  # a lost connection is the echo of a rank that was killed before
            cause = _failure_of(ended.first_bad, code, attempt)
    failure = hung or cause
    assert failure is not None, "a rank ended badly, or all hang"
    folder.write_result(crash_result(folder, failure, attempt))
    log = folder.logs / f"rank_{failure.rank}.log"
    return TrialFailedError(
        f"the trial crashed on rank {failure.rank} ({failure.reason.value}): {telling_line(failure.message)}",
        where=str(folder.path),
        hint=f"see {log}; the same command tries again from the last checkpoint",
    )


def _failure_of(rank: int, code: int, attempt: int) -> Failure:
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    message = KILLED if code == -signal.SIGKILL else f"ended by {name}"
    is_from_outside = code < 0 and -code not in _OWN_FAULTS  # without a signal it could not even begin
    reason = FailureReason.NODE if is_from_outside else FailureReason.ENGINE
    return failure_seen(attempt, reason, message, rank=rank, error_type="Killed" if code < 0 else "Ended")
