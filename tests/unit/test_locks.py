"""Locks: who holds one, who only looks, and disks that know none."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfbench.errors import LaunchError
from perfbench.results.locks import held, is_held


@contextmanager
def taken(path: Path) -> Iterator[None]:
    with held(path, busy="taken"):
        yield


def test_a_lock_is_held_by_one_and_seen_by_all(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not is_held(path)
    assert not path.exists()

    with taken(path):
        assert is_held(path)
        with pytest.raises(LaunchError, match="taken"), taken(path):
            pass

    assert not is_held(path)


def test_who_only_looks_disturbs_nobody(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            is_held(path)

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(300):
        with taken(path):
            pass
    ended.set()
    looking.join()


def test_a_child_that_inherits_a_lock_holds_it_when_its_parent_is_gone(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with held(path, busy="taken") as descriptor:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=(descriptor,), stdin=subprocess.PIPE
        )
    try:
        assert is_held(path)
    finally:
        child.communicate()
    assert not is_held(path)


def test_a_lock_whose_folder_was_removed_is_none(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with taken(path):
        path.unlink()
        with taken(path):
            assert is_held(path)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_disk_without_locks_is_one_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As Lustre and NFS answer where they are mounted without locks."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(LaunchError, match="files of this disk cannot be locked") as refused, taken(tmp_path / ".lock"):
        pass

    assert os.strerror(number) in refused.value.what
    assert refused.value.where == str(tmp_path / ".lock")
    assert "mount it with locks (Lustre: -o flock" in refused.value.hint
    assert not is_held(tmp_path / ".lock")


def test_a_lock_that_is_a_link_leaves_its_target_alone(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / ".lock").symlink_to(target)

    with pytest.raises(LaunchError, match="the lock cannot be opened") as refused, taken(tmp_path / ".lock"):
        pass

    assert "symbolic link" in refused.value.hint
    assert target.read_text() == "precious"
