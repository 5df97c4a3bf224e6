"""Ranks of this machine that hang or are killed: the trial ends, and its result says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, FailureReason
from tests.integration import failing_submission, small_criteo

pytestmark = pytest.mark.slow


def crash(folder: TrialFolder) -> Crashed:
    result = folder.result()
    assert result is not None
    assert isinstance(result.outcome, Crashed)
    return result.outcome


def test_a_hang_is_ended_with_the_stacks_of_all_ranks(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    overrides = failing_submission.write(tmp_path / "hangs_here", ["hang"])
    ended = small_criteo.run(
        data_root, tmp_path / "runs", *overrides, "cluster.nproc_per_node=2", "cluster.hang_timeout_s=30.0"
    )

    assert ended.returncode == 1
    assert "the trial crashed on rank 0 (hang): no step and no change of phase in time" in ended.stderr
    folder = TrialFolder(small_criteo.trial_folder(tmp_path / "runs", "baseline"))
    assert crash(folder).reason is FailureReason.HANG
    stacks = sorted(folder.logs.glob("stacks_attempt_1_rank_?.txt"))
    assert [path.name[-5] for path in stacks] == ["0", "1"]
    assert "hear" in stacks[1].read_text()
    trainers = folder.logs / "stacks_attempt_1_trainer_1.txt"
    assert "go_wrong" in trainers.read_text(), "where the submission hangs"


def test_a_killed_rank_is_not_taken_for_one_without_memory(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    overrides = failing_submission.write(tmp_path / "is_killed_here", ["kill"])
    ended = small_criteo.run(data_root, tmp_path / "runs", *overrides)

    assert ended.returncode == 1
    assert "crashed on rank 0 (node): the trainer was killed (SIGKILL): out of memory or killed by hand" in ended.stderr
    folder = TrialFolder(small_criteo.trial_folder(tmp_path / "runs", "baseline"))
    assert crash(folder).reason is FailureReason.NODE


def test_a_diverged_trial_is_a_result_and_no_failed_run(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    overrides = failing_submission.write(tmp_path / "diverges_here", ["nan"])
    ended = small_criteo.run(data_root, tmp_path / "runs", *overrides)

    assert ended.returncode == 0, ended.stderr
    assert "diverged: the training loss at step" in ended.stdout


def test_a_sweep_tells_programs_everything_and_nothing_else(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trial crashes, the other goes on to its end: all of standard output is JSON."""
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    overrides = failing_submission.write(tmp_path / "ways_here", ["mistake", "no"])
    ended = small_criteo.run(data_root, tmp_path / "runs", *overrides, "--json", verb="sweep")

    assert ended.returncode == 1
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [event["trial"] for event in events] == sorted(event["trial"] for event in events)
    first, second = ([event for event in events if event["trial"] == trial] for trial in (1, 2))
    assert [event["event"] for event in first] == ["started", "failed"]
    assert "a mistake in the submission" in first[1]["what"]
    assert [event["event"] for event in second] == ["started", *["measurement"] * 6, "result"]
    assert second[-1]["result"]["outcome"]["kind"] == "budget_spent"
