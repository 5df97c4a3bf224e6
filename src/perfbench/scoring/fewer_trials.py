"""Boards of fewer studies, fewer trials in each, and fewer workloads: what they cost, and how they rank.

A smaller board is drawn from the trials on record many times. In sample it is compared with the whole board, of which
it is a part; validated, with the board of the studies that were not drawn, or, where workloads are chosen too, on
submissions that the choice has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import Floats, Integers
from perfbench.scoring.agreement import Pairs, Signs, Tally, pair_signs, sum_of, tally
from perfbench.scoring.subset_front import Estimate
from perfbench.scoring.subsets import Subsets, TrialTimes, best_so_far, median_of_first, points

_NUM_DRAWS = 200
_NUM_CHOICE_DRAWS = 12
"""To choose by, where each is multiplied by hundreds of subsets and by every submission left out."""
Booleans = NDArray[np.bool_]


class Drawn(NamedTuple):
    """Smaller boards of one size: medians over the drawn studies, ``[draw, submission, workload]``."""

    num_studies: int
    num_trials: int
    times_s: Floats
    others_s: Floats | None
    """Of the studies that were not drawn, with all their trials; ``None`` where all were."""


@dataclass(frozen=True, slots=True)
class Smaller:
    """All workloads with fewer studies and trials."""

    num_studies: int
    num_trials: int
    cost: float
    """Share of the whole board's trials."""
    in_sample: Estimate
    """Tau with the whole board, of which it is a part; interval over draws."""
    validated: Estimate | None
    """Tau with the board of the studies that were not drawn; ``None`` where all were."""


@dataclass(frozen=True, slots=True)
class Design:
    """The best choice of workloads, studies and trials for its cost."""

    subset: int
    num_studies: int
    num_trials: int
    cost: float
    in_sample: Estimate
    """Mean tau with the whole board; interval over draws."""
    validated: Estimate
    """Of a choice at this cost, on the submission left out; interval over draws of studies, trials and submissions."""


def drawn_boards(times: TrialTimes, num_draws: int, generator: np.random.Generator) -> Iterator[Drawn]:
    """Draw studies, and trials in each, without replacement, for every submission and workload on its own.

    A submission that has fewer studies on a workload is drawn fewer, and one is left for the others where there are
    two.
    """
    all_times = np.where(np.isnan(times.times_s), np.inf, times.times_s)
    most_studies, most_trials = all_times.shape[2:]
    shape = (num_draws, *all_times.shape)
    trial_order = generator.random(shape).argsort(axis=-1)
    fastest = np.minimum.accumulate(np.take_along_axis(np.broadcast_to(all_times, shape), trial_order, -1), axis=-1)
    count = times.num_studies()
    is_missing = np.isnan(times.study_times())
    study_order = (generator.random(shape[:-1]) + 2.0 * is_missing).argsort(axis=-1)
    whole = np.take_along_axis(fastest[..., -1], study_order, axis=-1)
    place = np.arange(most_studies)
    for num_studies in range(1, most_studies + 1):
        left = 1 if num_studies < most_studies else 0
        drawn = np.clip(np.minimum(num_studies, count - left), np.minimum(1, count), None)
        is_drawn = place < drawn[..., None]
        for num_trials in range(1, most_trials + 1):
            ordered = np.take_along_axis(fastest[..., num_trials - 1], study_order, axis=-1)
            medians = _median_where(ordered, is_drawn)
            rest = np.where((count > drawn)[..., None], (place < count[..., None]) & ~is_drawn, is_drawn)
            yield Drawn(num_studies, num_trials, medians, _median_where(whole, rest) if left else None)


def _median_where(values: Floats, kept: Booleans) -> Floats:
    count = np.broadcast_to(kept.sum(axis=-1), values.shape[:-1]).astype(np.int64)
    return median_of_first(np.sort(np.where(kept, values, np.nan), axis=-1), count)


def smaller_boards(times: TrialTimes, *, seed: int = 0) -> list[Smaller]:
    """Compare boards of fewer studies and trials, on all workloads, with the whole board."""
    generator = np.random.default_rng(seed)
    benchmark = times.benchmark
    pairs = Pairs.of(len(times.submissions))
    mask = Subsets.of(times).masks()[-1:]
    whole = pair_signs(points(times.medians(), benchmark), mask, pairs)
    most = times.times_s.shape[2] * times.times_s.shape[3]
    found = []
    for drawn in drawn_boards(times, _NUM_DRAWS, generator):
        signs = pair_signs(points(drawn.times_s, benchmark), mask, pairs)
        own = tally(signs, whole).tau()[:, 0]
        validated = None
        if drawn.others_s is not None:
            other = tally(signs, pair_signs(points(drawn.others_s, benchmark), mask, pairs)).tau()[:, 0]
            validated = Estimate.of(float(other.mean()), other)
        cost = drawn.num_studies * drawn.num_trials / most
        found.append(Smaller(drawn.num_studies, drawn.num_trials, cost, Estimate.of(float(own.mean()), own), validated))
    return found


class _Choice(NamedTuple):
    """Every design in order of cost."""

    size: Integers
    """``[design]``: number of the drawn boards."""
    subset: Integers
    cost: Floats


def best_designs(times: TrialTimes, *, seed: int = 0) -> list[Design]:
    """Choose workloads, studies and trials together, and judge the choice on submissions that it has not seen."""
    generator = np.random.default_rng(seed)
    subsets = Subsets.of(times)
    few = list(drawn_boards(times, _NUM_CHOICE_DRAWS, generator))
    choice = _in_order(subsets, few)
    medians, masks = times.medians(), subsets.masks()
    num_submissions = len(medians)

    def chosen_by(seen: Booleans, *, dearest: bool) -> Integers:
        mean = agreement_of(few, medians, masks, times.benchmark, seen).mean(axis=1)
        return best_so_far(mean[choice.size, choice.subset], dearest=dearest)

    everyone = np.ones(num_submissions, dtype=np.bool_)
    front = np.unique(
        [*chosen_by(everyone, dearest=False).tolist(), len(choice.cost) - 1]
    )  # the last is the whole board
    pairs = Pairs.of(num_submissions)
    whole = pair_signs(points(medians, times.benchmark), masks[-1:], pairs)
    worth = [points(board.times_s, times.benchmark) for board in drawn_boards(times, _NUM_DRAWS, generator)]
    even = np.full(num_submissions, 1 / num_submissions)
    counts = generator.multinomial(num_submissions, even, _NUM_DRAWS).astype(np.float64)
    tallies: list[list[Tally]] = [[], []]
    for left_out in range(num_submissions):
        chosen = chosen_by(np.arange(num_submissions) != left_out, dearest=True)[front]
        its = (pairs.first == left_out) | (pairs.second == left_out)
        own = Pairs(pairs.first[its], pairs.second[its])
        placed = _signs_of(worth, masks, choice, chosen, own)
        full = np.broadcast_to(whole[its], placed.shape)
        tallies[0].append(tally(placed, full))
        tallies[1].append(tally(placed, full, counts[:, own.first] * counts[:, own.second]))
    value, drawn = (sum_of(one).tau() for one in tallies)
    placed = _signs_of(worth, masks, choice, front, pairs)
    in_sample = tally(placed, np.broadcast_to(whole, placed.shape)).tau()
    return [
        Design(
            subset=int(choice.subset[number]),
            num_studies=few[int(choice.size[number])].num_studies,
            num_trials=few[int(choice.size[number])].num_trials,
            cost=float(choice.cost[number]),
            in_sample=Estimate.of(float(in_sample[:, place].mean()), in_sample[:, place]),
            validated=Estimate.of(float(value[:, place].mean()), drawn[:, place]),
        )
        for place, number in enumerate(front.tolist())
    ]


def _in_order(subsets: Subsets, boards: Sequence[Drawn]) -> _Choice:
    most = boards[-1].num_studies * boards[-1].num_trials
    shares = np.array([board.num_studies * board.num_trials / most for board in boards])
    cost = shares[:, None] * subsets.cost
    order = np.argsort(np.round(cost, 9), axis=None, kind="stable")
    size, subset = np.unravel_index(order, cost.shape)
    return _Choice(size.astype(np.int64), subset.astype(np.int64), cost.ravel()[order])


def agreement_of(
    boards: Sequence[Drawn], medians: Floats, masks: Floats, benchmark: Benchmark, seen: Booleans
) -> Floats:
    """Return tau of every smaller board with the whole board of the submissions seen: ``[size, draw, subset]``."""
    pairs = Pairs.of(len(seen)).within(seen)
    whole = pair_signs(points(np.where(seen[:, None], medians, np.inf), benchmark), masks[-1:], pairs)
    found = []
    for board in boards:
        alone = np.where(seen[:, None], board.times_s, np.inf)
        found.append(tally(pair_signs(points(alone, benchmark), masks, pairs), whole[None]).tau())
    return np.stack(found)


def _signs_of(worth: Sequence[Floats], masks: Floats, choice: _Choice, chosen: Integers, pairs: Pairs) -> Signs:
    """Return who is ahead on the boards of some designs: ``[draw, pair, design]``."""
    parts = [
        pair_signs(worth[choice.size[number]], masks[choice.subset[number]][None], pairs) for number in chosen.tolist()
    ]
    return np.concatenate(parts, axis=-1)
