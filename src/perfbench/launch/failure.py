"""Naming why a rank failed: from the exception itself, once, where it is still at hand."""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path

from perfbench.errors import DataError, ExitCode, PerfbenchError, SubmissionError
from perfbench.registry import repository_root
from perfbench.results.store import Failure
from perfbench.spec.result import FailureReason

_COMPILED = re.compile(
    r"(/\S+\.so)\S*: (?:file too short|invalid ELF header|cannot read file data|failed to map|undefined symbol)"
)
"""A library, in the words of the dynamic loader for one that is damaged."""
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
        message=_message(problem),
        exit_code=int(ExitCode.IMPOSSIBLE_REQUEST if is_refusal else ExitCode.RUN_FAILED),
        traceback="".join(traceback.format_exception(problem)),
    )


def _message(problem: BaseException) -> str:
    """Return the exception's words; that a cache of compiled code is damaged, which they hide, comes first.

    >>> _message(OSError("inductor: /tmp/torchinductor_me/ab/cabc.so: file too short")).splitlines()[0]
    'compiled code in a cache is damaged: remove /tmp/torchinductor_me, it is made anew'
    """
    words = str(problem) or type(problem).__name__
    found = _COMPILED.search(words)
    if found is None or not re.search("inductor|triton", words):
        return words
    cache = next((folder for folder in Path(found[1]).parents if _is_cache(folder)), Path(found[1]))
    return f"compiled code in a cache is damaged: remove {cache}, it is made anew\n{words}"


def _is_cache(folder: Path) -> bool:
    named = (os.environ.get("TORCHINDUCTOR_CACHE_DIR"), os.environ.get("TRITON_CACHE_DIR"))
    return str(folder) in named or "torchinductor" in folder.name or folder.name == ".triton"


def telling_line(message: str) -> str:
    r"""Return the line of a message that tells most: the first that is no heading, or the first.

    >>> telling_line("backend='inductor' raised:\nImportError: /cache/x.so: file too short\n\nSet TORCH_LOGS=+dynamo")
    'ImportError: /cache/x.so: file too short'
    >>> telling_line("a mistake in the submission")
    'a mistake in the submission'
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith(":")), lines[0] if lines else "")


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
