"""Evaluation's share: for a trial in its summary, for a workload in the report."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from perfbench.cli.boards import read_boards
from perfbench.results.benchmark import benchmark_of, split_by_setting
from perfbench.results.reader import read_trials
from perfbench.results.store import TrialFolder
from perfbench.scoring.accounting import (
    eval_share_table,
    eval_shares,
    time_accounting,
    too_much_evaluation,
    trials_of,
)
from perfbench.scoring.board import leaderboard
from perfbench.scoring.report import ReportedBoard, report_page
from perfbench.scoring.report_data import status_of
from perfbench.scoring.uncertainty import bootstrap
from perfbench.spec.result import BudgetSpent, Crashed, Diverged, FailureReason, Outcome, PhaseTimes
from perfbench.tracking.console import summary
from tests.trial_folders import measurement, trial_spec, write_reaching_trial, write_trial


def summary_text(folder: TrialFolder, phases: PhaseTimes) -> str:
    result = folder.result()
    assert result is not None
    console = Console(width=160, file=io.StringIO())
    console.print(summary(trial_spec(), result.model_copy(update={"phases": phases}), folder))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_accounts_for_the_wall_time_and_warns_of_too_much_evaluation(tmp_path: Path) -> None:
    folder = write_reaching_trial(tmp_path, time_s=30.0)

    text = summary_text(folder, PhaseTimes(compile=2.0, scored=30.0, eval=10.0, idle=1.0, data_wait=4.5))
    assert "43.0 s: compile 2.0 s, scored 30.0 s (4.5 s of it waiting for data), eval 10.0 s, idle 1.0 s" in text
    assert "evaluation takes 25% of training and evaluation, more than 20%" in text

    text = summary_text(folder, PhaseTimes(scored=40.0, eval=10.0))
    assert "evaluation takes" not in text


def test_the_report_names_the_workloads_on_which_evaluation_takes_too_much(tmp_path: Path) -> None:
    """The trials of one workload last 2 s and those of the other 98 s, with 1 s of evaluation each."""
    for study in range(2):
        write_reaching_trial(tmp_path, time_s=2.0, workload="criteo", study=study)
        write_reaching_trial(tmp_path, time_s=98.0, workload="ogbg", study=study)
    reading = read_trials([tmp_path])
    ((name, trials),) = split_by_setting(reading.trials).items()
    benchmark, kept = benchmark_of(name, trials, [])
    logs = [trial.log() for trial in kept]
    board = leaderboard(logs, benchmark, as_published=False)

    shares = eval_shares(board, reading.trials)

    assert shares == {"criteo": 1 / 3, "ogbg": 1 / 99}
    assert eval_share_table(shares).rows == (("criteo", "33.3%", "more than 20%"), ("ogbg", "1.0%", ""))
    warning = "Evaluation takes more than 20% of training and evaluation on criteo (33%)"
    assert too_much_evaluation(shares) == warning
    assert warning in report_page([ReportedBoard(board, bootstrap(board), logs)], reading.trials, [], folder=tmp_path)
    (first, _) = time_accounting(board, reading.trials)
    assert first["seconds"] | {"idle": 0.0} == {
        **{"compile": 0.0, "scored": 2.0, "data wait": 0.0, "eval": 1.0},
        **{"checkpoint": 0.0, "logging": 0.0, "idle": 0.0},
    }


def test_trials_of_the_same_name_on_another_board_are_counted_there(tmp_path: Path) -> None:
    """As in a folder of runs at both scales: once it takes 10 s, once 90 s and ends with a crash."""
    write_reaching_trial(tmp_path / "mini", time_s=10.0)
    scale = trial_spec().scale.model_dump(mode="json") | {"name": "full"}
    spec = trial_spec({"scale": scale})
    crash = Crashed(reason=FailureReason.SUBMISSION, rank=0, error_type="Killed", message="killed", step=20)
    write_trial(tmp_path / "full", spec, [measurement(step=20, time_s=90.0, loss=1.0)], outcome=crash)
    read = read_boards([tmp_path], benchmark=None, as_published=False)
    assert [board.benchmark.name.split()[0] for board in read.boards] == ["full", "mini"]

    owned = [trials_of(logs, read.recorded) for logs in read.logs]
    scored = [
        time_accounting(board, own)[0]["seconds"]["scored"] for board, own in zip(read.boards, owned, strict=True)
    ]
    assert scored == [90.0, 10.0]

    boards = [ReportedBoard(board, bootstrap(board), logs) for board, logs in zip(read.boards, read.logs, strict=True)]
    full, mini = report_page(boards, read.recorded, [], folder=tmp_path).split('<section id="board-1">')
    assert "Trials: 1 crashed" in full
    assert "Trials: 1 reached" in mini


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (BudgetSpent(resource="time", step=30, submission_time_s=101.0), ("missed", "budget of time spent")),
        (
            Diverged(step=30, submission_time_s=31.0, metric="validation/loss", message="block 1 is not finite"),
            ("diverged", "block 1 is not finite"),
        ),
    ],
)
def test_an_end_that_no_evaluation_shows_is_told_by_the_result(
    tmp_path: Path, outcome: Outcome, expected: tuple[str, str]
) -> None:
    """Once the time is spent, there is no further evaluation."""
    folder = write_trial(tmp_path, trial_spec(), [measurement(step=20, time_s=30.0, loss=1.0)], outcome=outcome)
    read = read_boards([folder.path], benchmark=None, as_published=False)
    (trial,) = read.recorded

    assert status_of(trial.key, read.boards[0], {trial.key: trial}) == expected
