from __future__ import annotations

import math

import numpy as np
import pytest

from perfbench.errors import ScoringError
from perfbench.results.benchmark import AsPublished, Benchmark, BenchmarkWorkload
from perfbench.scoring.board import Board, Verdict, leaderboard
from perfbench.scoring.compare import compare
from perfbench.scoring.target import trial_end
from perfbench.scoring.times import median_time
from tests.scoring_logs import benchmark, log, reaching

INF = math.inf


def _board(times: dict[str, dict[str, list[float]]], *, num_studies: int = 1, num_trials: int = 1) -> Board:
    """Score submissions from one time per study."""
    logs = [
        reaching(time_s, submission=submission, workload=workload, study=study)
        for submission, workloads in times.items()
        for workload, studies in workloads.items()
        for study, time_s in enumerate(studies)
    ]
    names = {workload for workloads in times.values() for workload in workloads}
    return leaderboard(logs, benchmark(*sorted(names), num_studies=num_studies, num_trials=num_trials))


# --- one trial --------------------------------------------------------------------------------------------------


def test_the_time_to_target_is_that_of_the_first_evaluation_that_reaches_it() -> None:
    trial = log(times_s=[10, 20, 30], metric=[0.9, 0.5, 0.1])

    end = trial_end(trial, benchmark("w").workloads["w"])

    assert (end.time_s, end.evaluation_index) == (20.0, 1)


def test_a_target_met_after_the_budget_does_not_count() -> None:
    on_budget, after = log(times_s=[100], metric=[0.1]), log(times_s=[100.001], metric=[0.1])
    workload = benchmark("w").workloads["w"]

    assert trial_end(on_budget, workload).time_s == 100.0
    assert trial_end(after, workload).time_s == INF


def test_a_trial_that_diverged_is_over_even_if_the_target_is_met_later() -> None:
    end = trial_end(log(times_s=[10, 20], metric=[math.nan, 0.1]), benchmark("w").workloads["w"])

    assert end.time_s == INF
    assert end.outcome is not None
    assert end.outcome.kind == "diverged"


def test_a_trial_past_its_last_step_is_over() -> None:
    workload = benchmark("w").workloads["w"].model_copy(update={"max_steps": 2})

    assert trial_end(log(times_s=[1, 2, 3], metric=[0.9, 0.9, 0.1], steps=[1, 2, 3]), workload).time_s == INF
    assert trial_end(log(times_s=[1, 2], metric=[0.9, 0.1], steps=[1, 2]), workload).time_s == 2.0


def test_a_trial_without_evaluations_has_not_reached_anything() -> None:
    assert trial_end(log(times_s=[], metric=[]), benchmark("w").workloads["w"]).time_s == INF


# --- studies ----------------------------------------------------------------------------------------------------


def test_of_a_study_the_fastest_trial_counts_by_time_not_by_evaluation_index() -> None:
    slow = log(times_s=[50], metric=[0.1], trial=1)
    fast = log(times_s=[10, 20, 30], metric=[0.9, 0.9, 0.1], trial=2)

    board = leaderboard([slow, fast], benchmark("w", num_studies=1, num_trials=2))

    assert board.cells["a", "w"].time.time_s == 30.0
    assert board.cells["a", "w"].time.studies[0].trial == 2


def test_as_published_the_smallest_evaluation_index_counts_and_ties_follow_the_published_order() -> None:
    published = AsPublished(source="test", grid_points=100, trial_order=(3, 1, 2))
    rules = benchmark("w", num_studies=1, num_trials=3).model_copy(update={"as_published": published})
    trials = [
        log(times_s=[50], metric=[0.1], trial=1),
        log(times_s=[10, 20, 30], metric=[0.9, 0.9, 0.1], trial=2),
        log(times_s=[60], metric=[0.1], trial=3),
    ]

    assert leaderboard(trials, rules, as_published=True).cells["a", "w"].time.time_s == 60.0
    assert leaderboard(trials, rules).cells["a", "w"].time.time_s == 30.0


def test_as_published_is_refused_where_nothing_was_published() -> None:
    with pytest.raises(ScoringError, match="nothing is known about how this board was published"):
        leaderboard([reaching(1.0)], benchmark("w"), as_published=True)


@pytest.mark.parametrize(
    ("times", "median"),
    [([3, 1, 2], 2), ([1, INF, 2], 2), ([1, INF, INF], INF), ([1, 3], 2), ([1, INF], INF), ([], INF)],
)
def test_the_median_over_studies_is_infinite_where_a_middle_study_missed(times: list[float], median: float) -> None:
    assert median_time(times) == median


# --- rules over submissions ---------------------------------------------------------------------------------------


def test_scores_are_the_area_under_the_performance_profile() -> None:
    board = _board({"a": {"v": [10.0], "w": [10.0]}, "b": {"v": [20.0], "w": [INF]}}, num_studies=1, num_trials=1)

    assert board.score == pytest.approx({"a": 1.0, "b": (4 - 2) / 3 / 2})
    assert board.submissions == ("a", "b")
    assert board.warnings == ()


def test_more_than_four_times_the_fastest_does_not_count_and_exactly_four_does() -> None:
    board = _board({"a": {"w": [10.0]}, "b": {"w": [40.0]}, "c": {"w": [40.001]}}, num_studies=1, num_trials=1)

    assert board.cells["b", "w"].verdict is Verdict.COUNTED
    assert board.cells["c", "w"].verdict is Verdict.TOO_SLOW
    assert board.cells["c", "w"].ratio == INF


def _held_out(*, required: bool) -> Benchmark:
    plain = benchmark("w", "w_variant", num_studies=1, num_trials=1)
    variant = plain.workloads["w_variant"].model_copy(update={"base": "w"})
    scoring = plain.scoring.model_copy(update={"held_out_required": required})
    return plain.model_copy(update={"workloads": {"w": plain.workloads["w"], "w_variant": variant}, "scoring": scoring})


def test_a_base_workload_counts_only_where_its_variant_is_reached_if_the_rules_say_so() -> None:
    trials = [
        reaching(10.0, submission="a", workload="w"),
        reaching(INF, submission="a", workload="w_variant"),
        reaching(20.0, submission="b", workload="w"),
        reaching(30.0, submission="b", workload="w_variant"),
    ]

    required = leaderboard(trials, _held_out(required=True))
    waived = leaderboard(trials, _held_out(required=False))

    assert required.score == {"a": 0.0, "b": 1.0}
    assert required.cells["a", "w"].verdict is Verdict.HELD_OUT_MISSED
    assert required.cells["b", "w"].ratio == 1.0  # the disqualified time is nobody's yardstick
    assert waived.score == pytest.approx({"a": 1.0, "b": 2 / 3})


def test_a_variant_of_a_missed_base_workload_sets_no_pace_for_others() -> None:
    trials = [
        reaching(INF, submission="a", workload="w"),
        reaching(1.0, submission="a", workload="w_variant"),
        reaching(20.0, submission="b", workload="w"),
        reaching(30.0, submission="b", workload="w_variant"),
    ]

    board = leaderboard(trials, _held_out(required=True))

    assert board.cells["b", "w_variant"].verdict is Verdict.COUNTED
    assert board.score["b"] == 1.0


def test_a_workload_that_nobody_reached_gives_nobody_anything() -> None:
    board = _board({"a": {"v": [10.0], "w": [INF]}, "b": {"v": [INF], "w": [INF]}}, num_studies=1, num_trials=1)

    assert board.score == {"a": 0.5, "b": 0.0}


# --- partial boards -----------------------------------------------------------------------------------------------


def test_what_is_missing_is_warned_about_by_name() -> None:
    trials = [
        reaching(10.0, submission="a", workload="v"),
        reaching(10.0, submission="a", workload="w"),
        reaching(10.0, submission="b", workload="v", is_finished=False),
    ]

    board = leaderboard(trials, benchmark("v", "w", num_studies=2, num_trials=1))

    assert board.warnings == (
        "a: 1 of 2 studies on all workloads",
        "b: 1 of 2 studies on v",
        "b: not run, so not reached on w",
    )
    assert board.cells["b", "w"].verdict is Verdict.NOT_RUN


def test_trials_that_may_not_be_scored_are_left_out_with_a_warning() -> None:
    trials = [reaching(10.0, study=0, is_scorable=False), reaching(20.0, study=1)]

    board = leaderboard(trials, benchmark("w", num_studies=1, num_trials=1))

    assert board.cells["a", "w"].time.time_s == 20.0
    assert board.warnings == ("a: 1 trial left out: not scorable",)


def test_nothing_to_score_is_an_error_with_a_hint() -> None:
    with pytest.raises(ScoringError, match="none of 1 trials can be scored") as error:
        leaderboard([reaching(10.0, is_scorable=False)], benchmark("w"))

    assert "evaluation=wall_clock" in error.value.hint


def test_a_variant_must_name_a_base_workload_of_the_benchmark() -> None:
    plain = benchmark("w").model_dump(mode="json")
    plain["workloads"]["v"] = plain["workloads"]["w"] | {"base": "wrong"}

    with pytest.raises(Exception, match="'v' is a variant of 'wrong'"):
        Benchmark.from_mapping(plain)


# --- pairs --------------------------------------------------------------------------------------------------------


def test_a_comparison_counts_wins_and_averages_speed_ups_geometrically() -> None:
    times = {
        "a": {"u": [10.0], "v": [40.0], "w": [10.0], "x": [INF]},
        "b": {"u": [20.0], "v": [20.0], "w": [INF], "x": [INF]},
    }

    pair = compare(_board(times), "a", "b")

    assert (pair.wins, pair.losses, pair.ties) == (2, 1, 1)
    assert pair.speed_ups == {"u": 2.0, "v": 0.5}
    assert pair.mean_speed_up == pytest.approx(1.0)


def test_times_of_zero_seconds_are_equal_not_undefined() -> None:
    board = _board({"a": {"w": [0.0]}, "b": {"w": [0.0]}}, num_studies=1, num_trials=1)

    assert board.score == {"a": 1.0, "b": 1.0}
    assert not np.isnan(board.ratios()).any()


def test_a_workload_of_the_benchmark_needs_a_positive_budget() -> None:
    workload = benchmark("w").workloads["w"].model_dump(mode="json")

    with pytest.raises(Exception, match="max_submission_time_s"):
        BenchmarkWorkload.from_mapping(workload | {"max_submission_time_s": 0.0})
