"""A failed rank names its reason from the exception itself."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from perfbench.errors import DataError
from perfbench.launch.failure import describe_failure
from perfbench.spec.result import FailureReason


def reason(problem: BaseException, submission_folder: Path | None = None) -> FailureReason:
    folder = None if submission_folder is None else str(submission_folder)
    return describe_failure(problem, rank=0, attempt=1, has_started=True, submission_folder=folder).reason


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB."), FailureReason.OUT_OF_MEMORY),
        (MemoryError(), FailureReason.OUT_OF_MEMORY),
        (DataError("truncated"), FailureReason.DATA),
        (RuntimeError("Connection closed by peer [127.0.0.1]:1234"), FailureReason.NODE),
        (RuntimeError("something else"), FailureReason.ENGINE),
    ],
)
def test_an_exception_has_a_reason(problem: BaseException, expected: FailureReason) -> None:
    assert reason(problem) is expected


def test_memory_that_the_processor_does_not_have_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(10**15)

    assert reason(failed.value) is FailureReason.OUT_OF_MEMORY


def test_a_mistake_in_a_submission_from_elsewhere_is_the_submission_s(tmp_path: Path) -> None:
    (tmp_path / "submission.py").write_text("def build():\n    raise ValueError('a mistake')\n")
    build = runpy.run_path(str(tmp_path / "submission.py"))["build"]
    with pytest.raises(ValueError, match="a mistake") as failed:
        build()

    assert reason(failed.value, tmp_path) is FailureReason.SUBMISSION
    assert reason(failed.value) is FailureReason.ENGINE


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            OSError(28, "No space left on device", "a.pt"),
            "the disk is full: [Errno 28] No space left on device: 'a.pt'",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0\nframe #0: c10"),
            "the disk is full: [enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0",
        ),
        (
            RuntimeError("backend='inductor' raised:\nInvalidCxxCompiler: No working C++ compiler found in ['g++']"),
            "torch.compile finds no C++ compiler that works; install g++, or set CXX (backend='inductor' raised:)",
        ),
        (
            RuntimeError("PytorchStreamReader failed reading zip archive"),
            "PytorchStreamReader failed reading zip archive",
        ),
    ],
)
def test_the_cause_is_told_in_one_line(problem: BaseException, message: str) -> None:
    assert describe_failure(problem, rank=0, attempt=1, has_started=True).message == message


def test_an_author_s_mistake_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "submission.py").write_text("def build():\n    raise ValueError('a mistake')\n")
    build = runpy.run_path(str(tmp_path / "submission.py"))["build"]
    with pytest.raises(ValueError, match="a mistake") as failed:
        build()

    described = describe_failure(failed.value, rank=0, attempt=1, has_started=True, submission_folder=str(tmp_path))
    assert described.message == "a mistake (submission.py:2)"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_damaged_cache_of_compiled_code_is_named(tmp_path: Path) -> None:
    """In a process of its own: libraries that are truncated while they are in use end it."""
    program = (
        "import torch\n"
        "from perfbench.launch.failure import describe_failure, telling_line\n"
        "try:\n"
        "    torch.compile(lambda x: x.sin() + 1)(torch.ones(9))\n"
        "except Exception as problem:\n"
        "    print(telling_line(describe_failure(problem, rank=0, attempt=1, has_started=True).message))\n"
    )
    cache = tmp_path / "compiled"
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", program]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert first.stdout == ""
    libraries = list(cache.rglob("*.so"))
    assert libraries
    for library in libraries:
        library.write_bytes(library.read_bytes()[:200])

    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert second.stdout == f"compiled code in a cache is damaged: remove {cache}, it is made anew\n"
