"""Files on disks that cannot do everything, and in folders where somebody has put something else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from perfbench.errors import PerfbenchError, ResultsError
from perfbench.results.files import MOST_FACT_BYTES, append_line, create_text, read_regular_file, write_text_atomically


def test_a_disk_that_cannot_sync_folders_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FUSE and some network disks answer."""
    sync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112 - a descriptor
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)

    write_text_atomically(tmp_path / "record", "whole")

    assert (tmp_path / "record").read_text() == "whole"


@pytest.mark.parametrize("has_links", [True, False])
def test_of_many_that_create_a_file_one_was_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    num_threads, num_rounds = 8, 10
    with ThreadPoolExecutor(num_threads) as threads:
        for number in range(num_rounds):
            start = Barrier(num_threads)
            path = tmp_path / f"file_{number}"

            def create(index: int, start: Barrier = start, path: Path = path) -> bool:
                start.wait()
                return create_text(path, f"by {index}")

            made = list(threads.map(create, range(num_threads)))
            assert made.count(True) == 1
            assert path.read_text() == f"by {made.index(True)}"
    assert len(list(tmp_path.iterdir())) == num_rounds


def put_link(path: Path) -> None:
    target = path.with_name("target")
    target.write_text("precious\n")
    path.symlink_to(target)


def put_loop(path: Path) -> None:
    path.symlink_to(path)


PUT: dict[str, Callable[[Path], None]] = {
    "link": put_link,
    "loop": put_loop,
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", PUT)
def test_lines_are_appended_to_files_only(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "telemetry.jsonl"
    PUT[kind](path)

    with pytest.raises(OSError, match=r"symbolic links|pipe|directory") as refused:
        append_line(path, "{}")

    assert refused.value.filename == str(path)
    if kind == "link":
        assert (tmp_path / "target").read_text() == "precious\n"


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")

    with pytest.raises(OSError, match="a pipe or a device is where a file belongs"):
        read_regular_file(tmp_path / "run.json", max_bytes=MOST_FACT_BYTES)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "your quota is used up"),
        (errno.EACCES, "ask its owner"),
        (errno.EROFS, "mounted read-only"),
        (errno.EISDIR, "a folder is where a file belongs"),
        (errno.ELOOP, "a symbolic link is where a file belongs"),
    ],
)
def test_what_the_system_says_of_a_file_becomes_an_error_that_says_what_to_do(number: int, hint: str) -> None:
    problem: PerfbenchError = ResultsError.of_file(
        OSError(number, os.strerror(number), "a/file"), what="the record cannot be read"
    )

    assert str(problem).startswith(f"a/file: the record cannot be read: {os.strerror(number)}\n  hint: ")
    assert hint in problem.hint
