"""Naming why a rank failed: from the exception itself, once, where it is still at hand."""

from __future__ import annotations

import errno
import re
import traceback
from pathlib import Path

from perfbench.errors import DataError, ExitCode, PerfbenchError, SubmissionError
from perfbench.registry import repository_root
from perfbench.results.store import Failure
from perfbench.spec.result import FailureReason

_OUT_OF_MEMORY = re.compile(r"out of memory|can(no|')t allocate memory", re.IGNORECASE)
"""In the words of CUDA, and of torch's allocator on processors."""
_DISK_FULL = re.compile(
    r"No space left on device|inline_container\.cc.*(unexpected pos|file write failed)|PytorchStreamWriter", re.DOTALL
)
"""In the words of the kernel, and of what writes torch's files."""
_NO_COMPILER = re.compile(r"No working C\+\+ compiler|InvalidCxxCompiler|NO_CXX_COMPILER")
"""In the words of torch.compile."""


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
        message=_message(problem, submission_folder),
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


def _message(problem: BaseException, submission_folder: str | None) -> str:
    """Return what a person needs to read: the cause in one line where torch says it in many, and an author's line."""
    text = str(problem) or type(problem).__name__
    if _DISK_FULL.search(text) or (isinstance(problem, OSError) and problem.errno == errno.ENOSPC):
        return f"the disk is full: {text.splitlines()[0]}"
    if _NO_COMPILER.search(text):
        return f"torch.compile finds no C++ compiler that works; install g++, or set CXX ({text.splitlines()[0]})"
    frame = _frame_of_submission(problem, submission_folder)
    return text if frame is None else f"{text} ({Path(frame.filename).name}:{frame.lineno})"


def _was_raised_in_submission(problem: BaseException, submission_folder: str | None) -> bool:
    return _frame_of_submission(problem, submission_folder) is not None


def _frame_of_submission(problem: BaseException, submission_folder: str | None) -> traceback.FrameSummary | None:
    """Return the innermost frame of code that we know if it belongs to a submission."""
    submissions = [repository_root() / "submissions"]
    if submission_folder is not None:
        submissions.append(Path(submission_folder).resolve())
    package = repository_root() / "src"
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        file = Path(frame.filename).resolve()
        if any(file.is_relative_to(folder) for folder in submissions):
            return frame
        if file.is_relative_to(package):
            return None
    return None
