"""Unfinished is not "not reached": what becomes of trials that run, wait, crashed or were interrupted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from perfbench.errors import ScoringError
from perfbench.results.benchmark import BenchmarkWorkload
from perfbench.results.trials import TrialLog
from perfbench.scoring.board import Board, Verdict, leaderboard
from perfbench.scoring.selection import Selection, check_names
from perfbench.scoring.states import TrialState, is_settled, state_of
from perfbench.scoring.tables import as_csv, has_open_ends, score_table, state_table, time_table, trial_table
from perfbench.scoring.target import trial_end
from perfbench.spec.result import BudgetSpent, Completed, Crashed, Diverged, FailureReason, Outcome, TargetReached
from tests.scoring_logs import TARGET, benchmark, log, reaching

INF = math.inf


def crash(reason: FailureReason) -> Crashed:
    return Crashed(reason=reason, rank=0, error_type="E", message="m", step=1)


def open_trial(submission: str = "a", workload: str = "w", study: int = 0, trial: int = 1) -> TrialLog:
    """Return a trial that has measured something short of target and budget, and goes on."""
    running = log(times_s=[10.0], metric=[0.9])
    key = reaching(1.0, submission=submission, workload=workload, study=study, trial=trial).key
    return dataclasses.replace(running, key=key, is_finished=False)


def crashed(reason: FailureReason, **names: int | str) -> TrialLog:
    return dataclasses.replace(open_trial(**names), is_finished=True, outcome=crash(reason))  # type: ignore[arg-type]


def short(outcome: Outcome | None, **changes: bool) -> TrialLog:
    return dataclasses.replace(log(times_s=[10.0], metric=[0.9]), outcome=outcome, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trial", "state", "settled"),
    [
        (reaching(10.0), TrialState.REACHED, True),
        (reaching(10.0, is_finished=False), TrialState.REACHED, True),
        (log(times_s=[101.0], metric=[0.1]), TrialState.MISSED, True),
        (log(times_s=[1.0], metric=[np.nan]), TrialState.DIVERGED, True),
        (log(times_s=[10.0], metric=[0.9]), TrialState.MISSED, True),
        (short(Completed(step=1, submission_time_s=10.0)), TrialState.MISSED, True),
        (short(BudgetSpent(resource="time", step=1, submission_time_s=101.0)), TrialState.MISSED, True),
        (short(Diverged(step=1, submission_time_s=1.0, metric="m")), TrialState.DIVERGED, True),
        (short(TargetReached(step=1, submission_time_s=1.0)), TrialState.MISSED, True),
        (short(crash(FailureReason.SUBMISSION)), TrialState.CRASHED, True),
        (short(crash(FailureReason.OUT_OF_MEMORY)), TrialState.CRASHED, True),
        (short(crash(FailureReason.NODE)), TrialState.CRASHED, False),
        (short(crash(FailureReason.HANG)), TrialState.CRASHED, False),
        (short(None, is_finished=False), TrialState.UNFINISHED, False),
        (short(None, is_finished=False, is_started=False), TrialState.NOT_RUN, False),
    ],
)
def test_states(trial: TrialLog, state: TrialState, settled: bool) -> None:
    found = state_of(trial, trial_end(trial, BenchmarkWorkload(target=TARGET, max_submission_time_s=100.0)))

    assert found is state
    assert is_settled(trial, found) is settled


def two_boards(extra: TrialLog) -> tuple[Board, Board]:
    """Return a board without and with a trial of another study."""
    trials = [
        reaching(20.0, submission="a", workload="v"),
        reaching(20.0, submission="a", workload="w"),
        reaching(10.0, submission="b", workload="v"),
        reaching(30.0, submission="b", workload="w"),
    ]
    rules = benchmark("v", "w", num_studies=2, num_trials=1)
    return leaderboard(trials, rules), leaderboard([*trials, extra], rules)


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        (open_trial(study=1), "study 1 (trial 1 unfinished)"),
        (crashed(FailureReason.NODE, study=1), "study 1 (trial 1 crashed: node)"),
        (dataclasses.replace(open_trial(study=1), is_started=False), "study 1 (trial 1 not run)"),
    ],
)
def test_what_is_not_over_changes_no_score_and_is_named(extra: TrialLog, why: str) -> None:
    without, with_it = two_boards(extra)

    assert with_it.score == without.score
    assert f"a on w: not finished and left out: {why}" in with_it.warnings
    assert extra.key not in with_it.ends


def test_a_crash_of_the_submission_s_own_is_a_study_that_missed() -> None:
    without, with_it = two_boards(crashed(FailureReason.OUT_OF_MEMORY, study=1))

    assert with_it.score["a"] < without.score["a"]
    assert "a: 1 trial crashed on w" in with_it.warnings


def test_a_study_counts_once_all_its_trials_are_over() -> None:
    trials = [reaching(20.0, trial=1), reaching(90.0, study=1, trial=1), open_trial(study=1, trial=2)]

    board = leaderboard(trials, benchmark("w", num_studies=2, num_trials=2))

    assert [study.study for study in board.cells["a", "w"].time.studies] == [0]


def test_a_submission_with_nothing_finished_on_a_workload_is_not_ranked() -> None:
    trials = [
        reaching(20.0, submission="a", workload="v"),
        open_trial(submission="a", workload="w"),
        reaching(10.0, submission="b", workload="v"),
        reaching(30.0, submission="b", workload="w"),
    ]
    rules = benchmark("v", "w", num_studies=1, num_trials=1)

    board = leaderboard(trials, rules)
    common = leaderboard(trials, rules, common=True)

    assert board.submissions == ("b",)
    assert "a: not ranked, no study of it is finished on w (--common ranks by the rest)" in board.warnings
    assert common.score == {"a": pytest.approx(2 / 3), "b": 1.0}
    assert tuple(common.benchmark.workloads) == ("v",)
    assert "by the workloads that all have: v" in common.notes


def test_a_workload_on_which_nothing_is_finished_is_left_out() -> None:
    trials = [reaching(20.0, workload="v"), open_trial(workload="w")]

    board = leaderboard(trials, benchmark("v", "w", num_studies=1, num_trials=1))

    assert board.score == {"a": 1.0}
    assert "w: left out, no submission has finished a study on it" in board.warnings


def test_nothing_finished_is_an_error_that_names_what_runs() -> None:
    with pytest.raises(ScoringError, match="no study that can be compared is finished") as problem:
        leaderboard([open_trial()], benchmark("w"))

    assert "a on w: not finished and left out: study 0 (trial 1 unfinished)" in problem.value.what
    assert "--provisional" in problem.value.hint


def test_provisionally_what_is_not_over_counts_as_measured_and_is_shown_so() -> None:
    board = leaderboard(
        [reaching(20.0), open_trial(study=1), reaching(10.0, submission="b")],
        benchmark("w", num_studies=2, num_trials=1),
        provisional=True,
    )

    assert board.is_provisional
    assert board.cells["a", "w"].verdict is Verdict.MISSED
    assert "a: provisional, 1 trial not finished and counted as measured so far on w" in board.warnings
    assert score_table(board).title.endswith("(provisional)")
    assert ("a", "—…") in time_table(board).rows
    assert "provisional, a trial of it is not over" in time_table(board).caption


def test_without_anything_open_provisional_is_an_ordinary_board() -> None:
    board = leaderboard([reaching(20.0)], benchmark("w"), provisional=True)

    assert not board.is_provisional
    assert not has_open_ends(board)


def test_tables_show_states_and_what_counts() -> None:
    trials = [reaching(20.0), open_trial(study=1), dataclasses.replace(open_trial(study=2), is_started=False)]

    board = leaderboard(trials, benchmark("w", num_studies=3, num_trials=1))

    assert state_table(board).header == ("submission", "workload", "reached", "unfinished")
    assert state_table(board).rows == (("a", "w", "1", "1"),)
    assert has_open_ends(board)
    assert as_csv(trial_table(board)).splitlines()[1:] == [
        "a,w,0,1,reached,yes,20.000000,0",
        "a,w,1,1,unfinished,no,inf,",
    ]


def test_names_of_submissions_and_workloads_are_taken_or_left() -> None:
    trials = [reaching(1.0, submission=name, workload=one) for name in "abc" for one in ("v", "w")]
    rules = benchmark("v", "w")

    def left(selection: Selection) -> tuple[set[str], tuple[str, ...]]:
        logs, chosen = selection.of(trials, rules)
        assert {one.key.workload for one in logs} == set(chosen.workloads)
        return {one.key.submission for one in logs}, tuple(chosen.workloads)

    assert left(Selection()) == ({"a", "b", "c"}, ("v", "w"))
    assert left(Selection(only=("a", "c"))) == ({"a", "c"}, ("v", "w"))
    assert left(Selection(only=("w",))) == ({"a", "b", "c"}, ("w",))
    assert left(Selection(only=("a", "v"), exclude=("b",))) == ({"a"}, ("v",))
    assert left(Selection(exclude=("a", "v"))) == ({"b", "c"}, ("w",))
    with pytest.raises(ScoringError, match="nothing is left of it"):
        left(Selection(exclude=("v", "w")))
    with pytest.raises(ScoringError, match="--exclude: no submission or workload named 'x' is here"):
        check_names(Selection(exclude=("x",)), trials, [rules])
