"""Naming why a rank failed: from the exception itself, once, where it is still at hand."""

from __future__ import annotations

import errno
import os
import re
import traceback
from pathlib import Path

from perfbench.errors import DataError, SubmissionError
from perfbench.places import package_folder
from perfbench.registry import repository_root
from perfbench.spec.result import FailureReason

_COMPILED = re.compile(
    r"(/\S+\.so)\S*: (?:file too short|invalid ELF header|cannot read file data|failed to map|undefined symbol)"
)
"""A library, in the words of the dynamic loader for one that is damaged."""
_OUT_OF_MEMORY = re.compile(r"out of memory|can(no|')t allocate memory", re.IGNORECASE)
"""In the words of CUDA, and of torch's allocator on processors."""
_DISK_FULL = re.compile(
    r"No space left on device|inline_container\.cc.*(unexpected pos|file write failed)|PytorchStreamWriter", re.DOTALL
)
"""In the words of the kernel, and of what writes torch's files."""
_NO_COMPILER = re.compile(r"No working C\+\+ compiler|InvalidCxxCompiler|NO_CXX_COMPILER")
"""In the words of torch.compile."""


def reason_of(problem: BaseException, submission_folder: str | None = None) -> FailureReason:
    """Return the kind of an exception.

    Args:
        problem: What was raised.
        submission_folder: Of a submission from outside of the repository.
    """
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
    return _frame_of_submission(problem, submission_folder) is not None


def _frame_of_submission(problem: BaseException, submission_folder: str | None) -> traceback.FrameSummary | None:
    """Return the innermost frame of code that we know if it belongs to a submission."""
    submissions = [repository_root() / "submissions"]
    if submission_folder is not None:
        submissions.append(Path(submission_folder).resolve())
    package = package_folder()
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        file = Path(frame.filename).resolve()
        if any(file.is_relative_to(folder) for folder in submissions):
            return frame
        if file.is_relative_to(package):
            return None
    return None


def message_of(problem: BaseException, submission_folder: str | None = None) -> str:
    """Return the exception's words, with an author's line where it was raised in a submission.

    What they hide comes first: a full disk, a compiler that is not there, a damaged cache of compiled code.

    >>> message_of(OSError("inductor: /tmp/torchinductor_me/ab/cabc.so: file too short")).splitlines()[0]
    'compiled code in a cache is damaged: remove /tmp/torchinductor_me, it is made anew'
    """
    words = str(problem) or type(problem).__name__
    if _DISK_FULL.search(words) or (isinstance(problem, OSError) and problem.errno == errno.ENOSPC):
        return f"the disk is full: {words.splitlines()[0]}"
    if _NO_COMPILER.search(words):
        return f"torch.compile finds no C++ compiler that works; install g++, or set CXX ({words.splitlines()[0]})"
    frame = _frame_of_submission(problem, submission_folder)
    if frame is not None:
        return f"{words} ({Path(frame.filename).name}:{frame.lineno})"
    found = _COMPILED.search(words)
    if found is None or not re.search("inductor|triton", words):
        return words
    cache = next((folder for folder in Path(found[1]).parents if _is_cache(folder)), Path(found[1]))
    return f"compiled code in a cache is damaged: remove {cache}, it is made anew\n{words}"


def _is_cache(folder: Path) -> bool:
    named = (os.environ.get("TORCHINDUCTOR_CACHE_DIR"), os.environ.get("TRITON_CACHE_DIR"))
    return str(folder) in named or "torchinductor" in folder.name or folder.name == ".triton"
