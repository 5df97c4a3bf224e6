from __future__ import annotations

import math

import numpy as np
import pytest

from perfbench.results.trials import TrialLog
from perfbench.scoring.board import Board, leaderboard
from perfbench.scoring.sensitivity import Changes, Choice, sensitivity, sensitivity_table
from perfbench.scoring.times import StudyTime, WorkloadTime
from perfbench.scoring.uncertainty import bootstrap, interval_of, resampled_medians
from tests.scoring_logs import benchmark, log, reaching


def _logs(times: dict[str, dict[str, list[float]]]) -> list[TrialLog]:
    return [
        reaching(time_s, submission=submission, workload=workload, study=study)
        for submission, workloads in times.items()
        for workload, studies in workloads.items()
        for study, time_s in enumerate(studies)
    ]


def _board(times: dict[str, dict[str, list[float]]]) -> Board:
    names = {workload for workloads in times.values() for workload in workloads}
    return leaderboard(_logs(times), benchmark(*sorted(names), num_trials=1))


@pytest.mark.parametrize(("num_studies", "least_coverage"), [(5, 0.90), (15, 0.93)])
def test_intervals_of_a_time_cover_the_true_median_as_often_as_they_say(
    num_studies: int, least_coverage: float
) -> None:
    generator = np.random.default_rng(0)
    true_median, covered, repetitions = 1000.0, 0, 600
    for _ in range(repetitions):
        drawn = true_median * np.exp(generator.normal(0, 0.1, num_studies))
        studies = tuple(StudyTime(study, float(time_s), 1, 1) for study, time_s in enumerate(drawn))
        interval = interval_of(resampled_medians(WorkloadTime(studies), 400, generator), 0.95)
        covered += interval.low <= true_median <= interval.high

    assert least_coverage <= covered / repetitions <= 0.99


def test_intervals_of_a_score_cover_the_true_score_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    medians = {"a": {"v": 20.0, "w": 30.0}, "b": {"v": 30.0, "w": 36.0}}
    true_score = _board({name: {w: [t] * 5 for w, t in row.items()} for name, row in medians.items()}).score["b"]
    covered, repetitions = 0, 150
    for number in range(repetitions):
        drawn = {
            name: {w: (t * np.exp(generator.normal(0, 0.05, 5))).tolist() for w, t in row.items()}
            for name, row in medians.items()
        }
        interval = bootstrap(_board(drawn), num_samples=300, seed=number).score["b"]
        assert interval is not None
        covered += interval.low <= true_score <= interval.high

    assert covered / repetitions >= 0.93


def test_the_same_seed_gives_the_same_intervals() -> None:
    board = _board({"a": {"w": [1.0, 2.0, 3.0]}, "b": {"w": [2.0, 2.5, 3.5]}})

    assert bootstrap(board, seed=3) == bootstrap(board, seed=3)
    assert bootstrap(board, seed=3) != bootstrap(board, seed=4)


def test_without_repetition_there_is_no_interval() -> None:
    uncertainty = bootstrap(_board({"a": {"w": [1.0]}, "b": {"w": [2.0]}}))

    assert uncertainty.score == {"a": None, "b": None}
    assert uncertainty.time_s["a", "w"] is None


def test_studies_that_missed_make_an_interval_open() -> None:
    interval = bootstrap(_board({"a": {"w": [1.0, 2.0, 3.0, math.inf, math.inf]}})).time_s["a", "w"]

    assert interval is not None
    assert (interval.low, interval.high) == (1.0, math.inf)


def test_the_probability_of_being_faster_is_one_where_no_study_overlaps_and_half_between_equals() -> None:
    equal = [10.0, 11.0, 12.0, 13.0, 14.0]
    uncertainty = bootstrap(_board({"a": {"w": equal}, "b": {"w": [t + 20 for t in equal]}, "c": {"w": equal}}))

    assert uncertainty.is_faster["a", "b", "w"] == 1.0
    assert uncertainty.is_faster["b", "a", "w"] == 0.0
    assert uncertainty.is_faster["a", "c", "w"] == pytest.approx(0.5, abs=0.05)
    both_ways = [uncertainty.is_faster["a", "c", "w"], uncertainty.is_faster["c", "a", "w"]]
    assert sum(share for share in both_ways if share is not None) == pytest.approx(1.0)
    assert uncertainty.scores_higher["a", "b"] == 1.0
    assert uncertainty.rank["b"] == (3.0, 3.0)


def test_ranks_that_hang_on_one_choice_show_it() -> None:
    a = log(times_s=[10, 95], metric=[0.52, 0.498], key=reaching(1.0, submission="a").key)
    b = log(times_s=[20, 30], metric=[0.6, 0.3], key=reaching(1.0, submission="b").key)
    rules = benchmark("w", num_studies=1, num_trials=1)
    board = leaderboard([a, b], rules)

    changes = Changes(target_shares=(-0.05, 0.01), budget_factors=(0.9,), tau_maxima=(2.0,))
    variations = {variation.what: variation for variation in sensitivity(board, [a, b], changes)}

    assert board.submissions == ("b", "a")
    assert board.score["a"] > 0
    assert variations["5.0% easier"].rank("a") == 1
    assert variations["1.0% harder"].score["a"] == 0
    assert variations["90% of the budget"].score["a"] == 0
    assert variations["tau_max 2"].score["a"] == 0
    row = sensitivity_table(board, list(variations.values())).rows[1]
    assert row == ("a", "2", "1 to 2", "2", "2", "")


def test_every_base_workload_is_left_out_once() -> None:
    times = {"a": {"v": [1.0], "w": [9.0]}, "b": {"v": [2.0], "w": [3.0]}}
    board = _board(times)

    found = [one for one in sensitivity(board, _logs(times)) if one.choice is Choice.WORKLOADS]

    assert [one.what for one in found] == ["without v", "without w"]
    assert [one.rank("a") for one in found] == [2, 1]
