"""Which code ran: also where somebody runs another user's checkout, which git refuses by itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from perfbench.engine.referee.checkout import commit_of


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", f"safe.directory={folder}"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("RATE = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    return tmp_path


def test_a_commit_and_whether_files_differ_from_it_are_known(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")

    assert commit_of(checkout) == (commit, True)
    (checkout / "code.py").write_text("RATE = 2\n")
    assert commit_of(checkout) == (commit, False)


def test_the_commit_of_another_user_s_checkout_is_known(checkout: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files to another user")
    commit = git(checkout, "rev-parse", "HEAD")
    for path in [checkout, *checkout.rglob("*")]:
        os.chown(path, 12345, 12345)
    refused = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"],
        env={"PATH": os.environ["PATH"], "HOME": str(checkout / "nowhere"), "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "safe.directory" in refused.stderr
    assert commit_of(checkout) == (commit, True)


def test_where_there_is_no_checkout_no_commit_is_made_up(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == (None, None)
