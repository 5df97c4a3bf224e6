"""What a shell is answered that asks how a command line can go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def answers(line: str, folder: Path) -> list[str]:
    """Return what bash would show after ``line`` and the tabulator key, in a folder."""
    told = folder / "told"
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'@><=;|&(:",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(told),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    command = [sys.executable, "-m", "perfbench"]
    subprocess.run(command, env=os.environ | asked, cwd=folder, check=True, capture_output=True)
    return [word.strip() for word in told.read_text().split("\n")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("perfbench ver", {"verify"}),
        ("perfbench run work", {"workload=", "workload."}),
        ("perfbench run workload=criteo_l", {"criteo_layernorm"}),
        ("perfbench sweep workload=qual", {"qualification"}),
        ("perfbench run submission=adamw hp.learning", {"hp.learning_rate="}),
        ("perfbench run isolation=", {"none", "process", "sandbox"}),
        ("perfbench run cluster.hang", {"cluster.hang_timeout_s="}),
        ("perfbench show subm", {"submissions", "submission=", "submission."}),
        ("perfbench check submission adamw", {"adamw"}),
        ("perfbench run --dry-", {"--dry-run"}),
    ],
)
def test_a_word_is_completed(tmp_path: Path, line: str, expected: set[str]) -> None:
    assert set(answers(line, tmp_path)) == expected


def test_own_names_are_completed(tmp_path: Path) -> None:
    folder = tmp_path / "submissions" / "entirely_mine"
    folder.mkdir(parents=True)
    (folder / "submission.py").touch()

    assert answers("perfbench run submission=entirely", tmp_path) == ["entirely_mine"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_what_it_reads(shell: str) -> None:
    command = [sys.executable, "-m", "perfbench", "completion", shell]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "perfbench" in told
    assert {"bash": "complete -o", "zsh": "compdef", "fish": "complete --command"}[shell] in told
