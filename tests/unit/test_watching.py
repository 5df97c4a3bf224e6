"""What is told of a trial that runs: loss, speed, what is left, and its curves from another terminal."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.cli.watch import latest_trials
from perfbench.results.store import TrialFolder
from perfbench.tracking.follow import Follower, Progress
from perfbench.tracking.outlook import nearest_limit, outlook, seconds_left_to_target
from tests.trial_folders import measurement, trial_spec, write_trial


def running(runs: Path, *, trial: int = 1, losses: tuple[float, ...] = (1.0, 0.9, 0.8)) -> TrialFolder:
    """Write a trial that trains: 10 steps a second, an evaluation every second."""
    spec = trial_spec(trial=trial)
    records = [measurement(step=10 * n, time_s=float(n), loss=loss) for n, loss in enumerate(losses, start=1)]
    folder = write_trial(runs, spec, records, is_finished=False)
    for second in (0, len(losses)):
        pulse = {"phase": "training", "at_step": 10 * second, "submission_time_s": float(second)}
        folder.append_telemetry("pulse", {**pulse, "next_evaluation_s": 0.5})
    folder.append_telemetry("steps", {"step": [1, 2, 3, 4], "loss": [4.0, 3.0, 2.5, 2.25], "at_step": 4})
    return folder


def test_a_line_has_loss_speed_and_what_is_left(tmp_path: Path) -> None:
    folder = running(tmp_path)
    progress = Follower(folder, from_start=True).look()

    assert outlook(folder.trial(), progress) == [
        "training loss 2.25",
        "10.0 steps/s",
        "budget in 1:37 min",  # 100 s and 1,000 steps; three seconds and thirty steps are gone
        "target in about 3 s",  # by 0.1 a second from 0.8 to 0.5
    ]
    assert progress.new_losses == [(1, 4.0), (2, 3.0), (3, 2.5), (4, 2.25)]


def test_no_target_is_promised_that_the_budget_does_not_hold(tmp_path: Path) -> None:
    for losses in ((1.0, 0.9999, 0.9998), (0.8, 0.9, 1.0), (1.0,)):
        folder = running(tmp_path / str(losses), losses=losses)
        progress = Follower(folder, from_start=True).look()

        assert seconds_left_to_target(folder.trial(), progress) is None


def test_the_limit_that_comes_first_is_named() -> None:
    trial = trial_spec({"max_steps": 100})
    progress = Progress(phase="training", step=50, submission_time_s=1.0, steps_per_s=10.0)

    assert nearest_limit(trial, progress) == ("last step", 5.0)
    assert nearest_limit(trial_spec({"max_steps": None}), progress) == ("budget", 99.0)
    assert nearest_limit(trial, Progress()) is None


def test_a_target_that_the_curve_has_passed_is_for_the_next_evaluation_to_tell(tmp_path: Path) -> None:
    folder = running(tmp_path, losses=(1.0, 0.8, 0.6))
    folder.append_telemetry("pulse", {"phase": "training", "at_step": 40, "submission_time_s": 4.0})

    parts = outlook(folder.trial(), Follower(folder, from_start=True).look())

    assert parts[-1] == "target at the next evaluation, it seems"


def test_compiling_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(phase="compiling")
    now_s = progress.phase_began_s
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 42.0)

    assert outlook(trial_spec(), progress) == ["for 42 s"]


def test_curves_are_drawn_of_what_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = running(tmp_path)

    with folder.locked():
        assert main(["watch", str(tmp_path)]) == 0  # no terminal: once

    out = capsys.readouterr().out
    assert "A  adamw on criteo, study 0, trial 1: training, step 30, 3.0 s of 100 s" in out
    assert "validation/loss (line: target 0.5)" in out
    assert "training loss" in out


def test_the_ones_that_run_come_before_the_one_that_changed_last(tmp_path: Path) -> None:
    first, second = running(tmp_path, trial=1), running(tmp_path, trial=2)

    assert latest_trials(second.path) == [second.path]
    with first.locked():
        assert latest_trials(tmp_path) == [first.path]
    assert len(latest_trials(tmp_path)) == 1


def test_a_folder_without_trials_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["watch", str(tmp_path)]) == 2

    assert f"{tmp_path}: no trial folder found" in capsys.readouterr().err
