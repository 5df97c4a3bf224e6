"""Subsets of synthetic boards whose answer is known, and the arithmetic that they rest on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perfbench.errors import ScoringError
from perfbench.scoring.agreement import Pairs, kendall_tau, pair_signs, same_places, tally
from perfbench.scoring.agreement_record import AgreementRecord, record_of
from perfbench.scoring.fewer_trials import best_designs, drawn_boards, smaller_boards
from perfbench.scoring.subset_front import SubsetAnalysis, analyse_subsets
from perfbench.scoring.subset_tables import AS_A_PART, PREDICTS, SmallerBoards, front_table, tables
from perfbench.scoring.subset_validation import Judge, leave_one_out, splits_of
from perfbench.scoring.subsets import Subsets, TrialTimes, points
from tests.synthetic_boards import board_of, repeated, spread

_FEW = 60
_NEVER = math.inf


def _analysis(times: TrialTimes) -> SubsetAnalysis:
    return analyse_subsets(times, num_samples=_FEW)


def _decisive() -> TrialTimes:
    """Workload `b` ranks; on the others nobody or everybody is equal."""
    medians = np.full((12, 4), 50.0)
    medians[:, 1] = spread(12)
    return board_of(repeated(medians, noise=0.0))[2]


def test_one_decisive_workload_is_found_and_is_all_there_is() -> None:
    analysis = _analysis(_decisive())

    last = analysis.rows[-1]
    assert analysis.subsets.names(last.subset) == ("b",)
    assert last.in_sample == (1.0, 1.0, 1.0)
    assert (last.validated.value, last.validated.low) == (1.0, 1.0)
    assert last.num_chosen == 12
    assert last.chance == (1.0, 1.0)  # however the others are shuffled, `b` alone ranks
    assert front_table(analysis).rows[-1][-2:] == (AS_A_PART, "b")
    assert [one.value for one in last.tops] == pytest.approx([1.0, 1.0])


def test_of_noise_the_best_subset_is_no_better_than_chance() -> None:
    generator = np.random.default_rng(0)
    medians = np.stack([generator.permutation(spread(10)) for _ in range(4)], axis=1)

    analysis = _analysis(board_of(repeated(medians))[2])

    assert not any(row.predicts or row.predicts_rest for row in analysis.rows)
    partial = [row for row in analysis.rows if row.rest is not None]
    assert max(row.in_sample.value for row in partial) > 0.6  # a part agrees with its whole, chosen or not
    assert all(PREDICTS not in row for row in front_table(analysis).rows)


def test_chance_is_what_a_part_has_of_its_whole_and_nothing_of_the_rest() -> None:
    found = []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        medians = np.stack([generator.permutation(spread(10)) for _ in range(4)], axis=1)
        found += [row for row in _analysis(board_of(repeated(medians))[2]).rows if row.rest is not None]

    assert np.mean([row.rest.value for row in found if row.rest]) == pytest.approx(0.0, abs=0.2)
    assert np.mean([row.validated.value - row.chance.mean for row in found]) == pytest.approx(0.0, abs=0.15)


def test_of_two_equal_halves_the_cheaper_one_tells_all() -> None:
    generator = np.random.default_rng(3)
    one, two = generator.permutation(spread(12)), generator.permutation(spread(12))

    analysis = _analysis(board_of(repeated(np.stack([one, two, one, two], axis=1), noise=0.0))[2])

    number = analysis.subsets.number_of(("a", "b"), has_variants=True)
    assert analysis.in_sample[number] == 1.0
    last = analysis.rows[-1]
    assert last.subset == number
    assert analysis.subsets.cost[last.subset] == pytest.approx(0.3)
    assert last.rest is not None
    assert last.rest.value == 1.0
    assert last.predicts
    assert last.predicts_rest


def test_without_the_submission_that_a_subset_was_chosen_for_it_is_not_chosen() -> None:
    """`a` fits all but the last submission; only that one's pairs speak for `b`: it must not choose for itself."""
    medians = np.stack([spread(8), spread(8)[::-1], spread(8), spread(8)], axis=1)
    _, _, times = board_of(repeated(medians, noise=0.0, num_studies=1))
    subsets = Subsets.of(times)
    judge = Judge.of(times.benchmark, subsets, np.array([len(subsets) - 1]))
    seen = np.arange(8) != 3

    moved = times.medians()
    moved[3, :] = 1e3
    choices = [judge.choices(one[None], seen) for one in (times.medians(), moved)]

    assert choices[0].tolist() == choices[1].tolist()


def test_points_are_means_of_the_board_s_scores() -> None:
    generator = np.random.default_rng(5)
    times_s = generator.uniform(20, 90, (6, 4, 3, 2))
    times_s[generator.random(times_s.shape) < 0.2] = _NEVER
    board, _, times = board_of(times_s)

    worth = points(times.medians(), times.benchmark)

    assert worth[:, :4].mean(axis=1) == pytest.approx([board.score[name] for name in board.submissions], abs=1e-12)
    assert times.medians().tolist() == [
        [board.cells[name, one].time.time_s for one in times.benchmark.workloads] for name in board.submissions
    ]


def test_tau_is_that_of_counting_pairs() -> None:
    generator = np.random.default_rng(7)
    worth = generator.integers(0, 9, (9, 4)) / 8
    masks = np.array([[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1]], dtype=np.float64)
    pairs = Pairs.of(9)

    signs = pair_signs(worth, masks, pairs)
    found = tally(signs, signs[:, -1:]).tau()

    for number, mask in enumerate(masks):
        assert found[number] == pytest.approx(_slow_tau((worth * mask).sum(axis=1), worth.sum(axis=1)), abs=1e-6)
    assert kendall_tau(worth[:, 0], worth.sum(axis=1)) == pytest.approx(found[0], abs=1e-6)


def _slow_tau(
    one: np.ndarray[tuple[int], np.dtype[np.float64]], two: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float:
    together = first = second = 0
    for i in range(len(one)):
        for j in range(i):
            x, y = (int(np.sign(round(values[i] - values[j], 9))) for values in (one, two))
            together, first, second = together + x * y, first + x * x, second + y * y
    return together / math.sqrt(first * second) if first and second else 0.0


def test_weights_count_a_pair_as_often_as_both_of_it_were_drawn() -> None:
    signs = np.array([[1.0], [-1.0], [1.0]], dtype=np.float32)
    whole = np.ones((3, 1), dtype=np.float32)

    assert tally(signs, whole, np.array([4.0, 0.0, 0.0])).tau().tolist() == [1.0]
    assert tally(signs, whole, np.array([0.0, 2.0, 0.0])).tau().tolist() == [-1.0]


def test_first_places_that_are_level_are_shared() -> None:
    whole = np.array([[0.9], [0.5], [0.5], [0.1]])

    assert same_places(whole, whole, 2).tolist() == [1.0]
    assert same_places(np.array([[0.9], [0.6], [0.5], [0.1]]), whole, 2).tolist() == [0.75]


def test_a_board_that_orders_nobody_says_nothing() -> None:
    assert kendall_tau(np.zeros(4), np.arange(4.0)) == 0.0


def test_every_half_is_left_out_where_there_are_few() -> None:
    assert len(splits_of(6, 100, np.random.default_rng(0))) == 20


def test_leaving_one_out_of_a_noisy_board_repeats_itself() -> None:
    times = board_of(repeated(np.random.default_rng(2).uniform(20, 70, (6, 3)), noise=0.2))[2]
    judge = Judge.of(times.benchmark, Subsets.of(times), np.array([2]))
    medians = times.medians()

    found = leave_one_out(judge, np.stack([medians] * 40))

    assert np.ptp(found.validated.whole) == 0.0
    assert found.choices.shape == (6, 40, 1)


def test_too_few_and_too_many_submissions_are_refused_with_what_is_needed() -> None:
    with pytest.raises(ScoringError, match="3 submissions on 4 workloads") as problem:
        board_of(repeated(np.full((3, 4), 50.0)))

    assert "4 submissions at least" in problem.value.hint
    with pytest.raises(ScoringError, match="61 submissions on 2 workloads") as problem:
        board_of(repeated(np.full((61, 2), 50.0), num_studies=1))
    assert "60 at most" in problem.value.hint


def test_fewer_studies_and_trials_lose_what_they_should() -> None:
    """Only the last of three trials reaches the target: one trial drawn is luck, three are the board."""
    times_s = np.full((6, 2, 3, 3), _NEVER)
    times_s[..., 2] = spread(6)[:, None, None]
    _, _, times = board_of(times_s)

    by_size = {(one.num_studies, one.num_trials): one for one in smaller_boards(times)}

    assert by_size[3, 3].in_sample == (1.0, 1.0, 1.0)
    assert by_size[3, 3].validated is None
    assert by_size[1, 3].in_sample.value == 1.0
    validated = by_size[1, 3].validated
    assert validated is not None
    assert validated.value == 1.0
    assert by_size[1, 1].in_sample.value < 0.6
    assert by_size[1, 1].cost == pytest.approx(1 / 9)


def test_studies_that_are_not_drawn_are_the_others() -> None:
    times_s = np.array([10.0, 20.0, 40.0])[None, None, :, None] * np.ones((4, 2, 1, 1))
    _, _, times = board_of(times_s)

    for drawn in drawn_boards(times, 50, np.random.default_rng(0)):
        if drawn.num_studies == 1:
            assert drawn.others_s is not None
            pairs = set(zip(drawn.times_s.ravel().tolist(), drawn.others_s.ravel().tolist(), strict=True))
            assert pairs == {(10.0, 30.0), (20.0, 25.0), (40.0, 15.0)}
    assert drawn.others_s is None
    assert set(drawn.times_s.ravel().tolist()) == {20.0}


def test_the_best_design_of_a_decisive_workload_is_one_trial_of_it() -> None:
    designs = best_designs(_decisive())

    assert designs[-2].in_sample.value == 1.0
    assert (designs[-2].num_studies, designs[-2].num_trials) == (1, 1)
    assert designs[-2].validated.value == 1.0
    assert (designs[-1].cost, designs[-1].validated) == (1.0, (1.0, 1.0, 1.0))  # the whole board


def test_a_record_answers_for_a_part_and_not_for_what_it_does_not_know() -> None:
    times = _decisive()
    boards = SmallerBoards(_analysis(times), tuple(smaller_boards(times)), tuple(best_designs(times)))

    record = AgreementRecord.from_json(record_of(boards).to_lines())

    found = record.expected({"b"}, num_studies=2, num_trials=1)
    assert found is not None
    assert found.in_sample == 1.0
    assert found.cost == pytest.approx(0.2 * 2 / 3)
    assert found.validated is not None
    assert found.validated.tau == 1.0
    assert record.expected({"b", "unknown"}, num_studies=1, num_trials=1) is None
    assert record.expected({"b"}, num_studies=4, num_trials=1) is None
    assert tables(boards)[0].title == "Boards of fewer workloads"
