"""What the job does that comes after all others."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from perfbench.launch.slurm.aggregation import aggregate
from tests.trial_folders import write_reaching_trial


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record what is called instead of calling it; the verb ``fails`` among them fails."""
    commands: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        assert not check
        commands.append(command[3:])
        return subprocess.CompletedProcess(command, 2 if command[3] == "score" and not command[4].endswith("ok") else 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def runs(tmp_path: Path, **of_trial: Any) -> Path:
    root = tmp_path / "ok"
    write_reaching_trial(root, time_s=10.0, **of_trial)
    (root / ".slurm/aggregation").mkdir(parents=True)
    return root


def test_explored_trials_are_listed_and_not_scored(tmp_path: Path, called: list[list[str]]) -> None:
    root = runs(tmp_path, explored="x=1")

    aggregate(str(root))

    assert called == [["resume", "--lost", str(root)], ["table", "--csv", str(root / "explored.csv"), str(root)]]
    assert (root / ".slurm/aggregation/done").exists()


def test_studies_are_scored_and_reported(tmp_path: Path, called: list[list[str]]) -> None:
    root = runs(tmp_path)

    aggregate(str(root))

    assert [command[0] for command in called] == ["resume", "score", "report"]


def test_what_fails_is_shown_and_the_rest_is_done(tmp_path: Path, called: list[list[str]]) -> None:
    root = runs(tmp_path).rename(tmp_path / "fails")

    with pytest.raises(SystemExit, match="2"):
        aggregate(str(root))

    assert [command[0] for command in called] == ["resume", "score", "report"]
    assert not (root / ".slurm/aggregation/done").exists()
