"""What is on record of a rank that failed: told by its trainer, or by the exception that ended its referee."""

from __future__ import annotations

import traceback

from perfbench.errors import ExitCode, PerfbenchError
from perfbench.results.store import Failure
from perfbench.spec.result import FailureReason


def describe_failure(
    problem: BaseException, *, rank: int, attempt: int, has_started: bool, submission_folder: str | None = None
) -> Failure:
    """Describe an exception that ended a rank.

    Args:
        problem: What was raised; what a trainer told counts as told.
        rank: Where.
        attempt: Which attempt of the trial.
        has_started: Whether there was a referee: a request that turns out impossible before is no failed run.
        submission_folder: Of a submission from outside of the repository.
    """
    from perfbench.engine.referee.link import TrainerEnded, TrainerFailed
    from perfbench.engine.wire.reasons import message_of, reason_of

    error_type, message = type(problem).__name__, message_of(problem, submission_folder)
    text = "".join(traceback.format_exception(problem))
    is_refusal = isinstance(problem, PerfbenchError) and not has_started
    reason = FailureReason.ENGINE
    if isinstance(problem, TrainerFailed):
        told = problem.failed
        error_type, message, text = told.error_type, told.message, told.traceback
        reason, is_refusal = told.reason, told.is_refusal
    elif isinstance(problem, TrainerEnded):
        reason = FailureReason.NODE if "SIG" in message else FailureReason.SUBMISSION
    else:
        reason = reason_of(problem, submission_folder)
    return Failure(
        attempt=attempt,
        rank=rank,
        reason=reason,
        error_type=error_type,
        message=message,
        exit_code=int(ExitCode.IMPOSSIBLE_REQUEST if is_refusal else ExitCode.RUN_FAILED),
        traceback=text,
    )


def telling_line(message: str) -> str:
    r"""Return the line of a message that tells most: the first that is no heading, or the first.

    >>> telling_line("backend='inductor' raised:\nImportError: /cache/x.so: file too short\n\nSet TORCH_LOGS=+dynamo")
    'ImportError: /cache/x.so: file too short'
    >>> telling_line("a mistake in the submission")
    'a mistake in the submission'
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith(":")), lines[0] if lines else "")
