"""Naming why a rank failed: from the exception itself, once, where it is still at hand."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from perfbench.errors import DataError, ExitCode, PerfbenchError, SubmissionError
from perfbench.registry import repository_root
from perfbench.results.store import Failure
from perfbench.spec.result import FailureReason

_OUT_OF_MEMORY = re.compile(r"out of memory|can(no|')t allocate memory", re.IGNORECASE)
"""In the words of CUDA, and of torch's allocator on processors."""


def describe_failure(
    problem: BaseException, *, rank: int, attempt: int, has_started: bool, submission_folder: str | None = None
) -> Failure:
    """Describe an exception that ended a rank.

    Args:
        problem: What was raised.
        rank: Where.
        attempt: Which attempt of the trial.
        has_started: Whether training had begun: a request that turns out impossible before is no failed run.
        submission_folder: Of a submission from outside of the repository.
    """
    is_refusal = isinstance(problem, PerfbenchError) and not has_started
    return Failure(
        attempt=attempt,
        rank=rank,
        reason=_reason(problem, submission_folder),
        error_type=type(problem).__name__,
        message=str(problem) or type(problem).__name__,
        exit_code=int(ExitCode.IMPOSSIBLE_REQUEST if is_refusal else ExitCode.RUN_FAILED),
        traceback="".join(traceback.format_exception(problem)),
    )


def _reason(problem: BaseException, submission_folder: str | None) -> FailureReason:
    if isinstance(problem, MemoryError) or _OUT_OF_MEMORY.search(str(problem)):
        return FailureReason.OUT_OF_MEMORY
    if isinstance(problem, DataError):
        return FailureReason.DATA
    if isinstance(problem, SubmissionError) or _was_raised_in_submission(problem, submission_folder):
        return FailureReason.SUBMISSION
    if isinstance(problem, ConnectionError) or re.search(r"Connection (closed|reset) by peer", str(problem)):
        return FailureReason.NODE
    return FailureReason.ENGINE


def _was_raised_in_submission(problem: BaseException, submission_folder: str | None) -> bool:
    """Tell whether the innermost frame of code that we know belongs to a submission."""
    submissions = [repository_root() / "submissions"]
    if submission_folder is not None:
        submissions.append(Path(submission_folder).resolve())
    package = repository_root() / "src"
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        file = Path(frame.filename).resolve()
        if any(file.is_relative_to(folder) for folder in submissions):
            return True
        if file.is_relative_to(package):
            return False
    return False
