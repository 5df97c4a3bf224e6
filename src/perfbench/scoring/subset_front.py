"""What the subsets of a board are worth: agreement in sample and validated, with intervals, along the front of cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perfbench.results.trials import Floats, Integers
from perfbench.scoring.agreement import Pairs, pair_signs, same_places, tally
from perfbench.scoring.subset_validation import (
    CHUNK,
    TOPS,
    HalfOut,
    Judge,
    Resampled,
    leave_half_out,
    leave_one_out,
    shuffled,
    splits_of,
)
from perfbench.scoring.subsets import Subsets, TrialTimes, best_so_far, points
from perfbench.scoring.uncertainty import interval_of

LEVEL = 0.95
_NUM_SAMPLES = 1000
_NUM_SHUFFLES = 200
_NUM_SPLITS = 60
_NUM_HALF_SAMPLES = 60
"""Bootstrap samples for the intervals of leave-half-out: each is chosen from once per split."""
_MOST_SIGNS = 5e8
"""Of pairs, subsets, samples and submissions left out: with many submissions there are fewer samples, so that it takes
seconds still."""
_LEAST_SAMPLES = 100


class Estimate(NamedTuple):
    """A figure and its percentile interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, samples: Floats) -> Estimate:
        """Return a figure with the interval of its bootstrap samples."""
        return cls(float(value), *interval_of(samples, LEVEL))


class Chance(NamedTuple):
    """What the same procedure finds where workloads say nothing of one another."""

    mean: float
    high: float
    """Of 40 such boards one comes out above it."""

    @classmethod
    def of(cls, samples: Floats) -> Chance:
        """Return mean and upper end of samples."""
        return cls(float(samples.mean()), interval_of(samples, LEVEL).high)

    def is_excluded_by(self, estimate: Estimate) -> bool:
        """Tell whether an interval lies above chance, and the figure above nearly all that chance gives."""
        return estimate.low > self.mean and estimate.value > self.high


@dataclass(frozen=True, slots=True)
class FrontRow:
    """A subset that agrees more than every cheaper one, and what choosing at its cost is worth."""

    subset: int
    in_sample: Estimate
    """Tau with the whole board; interval over studies."""
    validated: Estimate
    """Of a choice at this cost, on the submission left out; interval over studies and submissions."""
    validated_by_studies: Estimate
    """The same figure; interval over studies alone, as the one in sample has it."""
    chance: Chance
    half_out: Estimate
    """Of a choice at this cost, within the half left out; interval over studies."""
    rest: Estimate | None
    """Leave-one-out agreement with the workloads that were not chosen; ``None`` for the whole board."""
    chance_rest: Chance
    tops: tuple[Estimate, ...]
    """Share of the first places in common with the whole board, by ``TOPS``; interval over studies."""
    tops_validated: tuple[Estimate, ...]
    """The same within the half left out."""
    tops_chance: tuple[float, ...]
    """Of naming as many at random."""
    num_chosen: int
    """Of the leave-one-out choices, how many are this subset."""

    @property
    def predicts(self) -> bool:
        """Tell whether a choice at this cost says more of the board than that it is a part of it."""
        return self.chance.is_excluded_by(self.validated)

    @property
    def predicts_rest(self) -> bool:
        """Tell whether it tells the ranking on workloads that it leaves out better than chance."""
        return self.rest is not None and self.chance_rest.is_excluded_by(self.rest)


@dataclass(frozen=True, slots=True)
class SubsetAnalysis:
    """All subsets of a board."""

    times: TrialTimes
    subsets: Subsets
    in_sample: Floats
    """``[subset]``: tau with the whole board."""
    interval: Floats
    """``[2, subset]``: its ends, over studies."""
    rows: tuple[FrontRow, ...]
    repeated: Estimate
    """Tau of the whole board with itself when its studies are drawn again: no subset can be asked for more."""
    num_samples: int

    def row_at(self, cost: float) -> FrontRow | None:
        """Return the front's row that so much pays for."""
        paid = [row for row in self.rows if self.subsets.cost[row.subset] <= cost + 1e-9]
        return paid[-1] if paid else None


def analyse_subsets(times: TrialTimes, *, num_samples: int = _NUM_SAMPLES, seed: int = 0) -> SubsetAnalysis:
    """Compare every subset with the whole board, in sample and validated.

    Args:
        times: Of all trials.
        num_samples: Bootstrap samples over studies.
        seed: Same seed, same intervals.
    """
    generator = np.random.default_rng(seed)
    subsets = Subsets.of(times)
    medians = times.medians()
    num_submissions = len(medians)
    signs = pair_signs(points(medians, times.benchmark), subsets.masks(), Pairs.of(num_submissions))
    own = tally(signs, signs[:, -1:]).tau()
    front = np.unique(best_so_far(own))
    judge = Judge.of(times.benchmark, subsets, front)
    samples = np.concatenate([medians[None], times.resampled(num_samples, generator)])
    counts = generator.multinomial(num_submissions, np.full(num_submissions, 1 / num_submissions), len(samples))
    signs_of_one = num_submissions * signs.shape[0] * len(judge.masks)
    most = 1 + max(_LEAST_SAMPLES, int(_MOST_SIGNS / signs_of_one))
    found = leave_one_out(judge, samples[:most], counts[:most].astype(np.float64))
    chance = leave_one_out(judge, shuffled(medians, times.benchmark, _NUM_SHUFFLES, generator))
    splits = splits_of(num_submissions, _NUM_SPLITS, generator)
    half = leave_half_out(judge, samples[: _NUM_HALF_SAMPLES + 1], splits)
    tops = _tops(times, subsets, samples, front)
    rows = tuple(_row(place, judge, (found, chance, half), tops) for place in range(len(front)))
    ends = _intervals(times, subsets, samples[1:])
    return SubsetAnalysis(times, subsets, own, ends, rows, _repeated(times, samples), num_samples)


def _intervals(times: TrialTimes, subsets: Subsets, samples: Floats) -> Floats:
    """Return the ends of every subset's agreement over studies: ``[2, subset]``."""
    masks = subsets.masks()
    found = []
    for start in range(0, len(samples), CHUNK):
        signs = pair_signs(points(samples[start : start + CHUNK], times.benchmark), masks, Pairs.of(samples.shape[1]))
        found.append(tally(signs, signs[..., -1:]).tau())
    tau = np.concatenate(found)
    return np.array([interval_of(tau[:, number], LEVEL) for number in range(len(subsets))]).T


def _tops(times: TrialTimes, subsets: Subsets, samples: Floats, front: Integers) -> Floats:
    """Return the share of first places in common: ``[top, sample, front]``."""
    worth = points(samples, times.benchmark)
    weights = subsets.masks()
    scores, whole = worth @ weights[front].T, worth @ weights[-1:].T
    return np.stack([same_places(scores, whole, top) for top in TOPS])


def _row(place: int, judge: Judge, found: tuple[Resampled, Resampled, HalfOut], tops: Floats) -> FrontRow:
    own, chance, half = found
    subset = int(judge.caps[place])
    is_whole = not judge.rest_masks[subset].any()
    whole, rest = own.validated.whole[:, place], own.validated.rest[:, place]
    num_unseen = own.choices.shape[0] // 2
    return FrontRow(
        subset=subset,
        in_sample=Estimate.of(own.in_sample[0, subset], own.in_sample[1:, subset]),
        validated=Estimate.of(whole[0], own.drawn.whole[1:, place]),
        validated_by_studies=Estimate.of(whole[0], whole[1:]),
        chance=Chance.of(chance.validated.whole[:, place]),
        half_out=Estimate.of(half.whole[0, place], half.whole[1:, place]),
        rest=None if is_whole else Estimate.of(rest[0], own.drawn.rest[1:, place]),
        chance_rest=Chance.of(chance.validated.rest[:, place]),
        tops=tuple(Estimate.of(one[0, place], one[1:, place]) for one in tops),
        tops_validated=tuple(Estimate.of(one[0, place], one[1:, place]) for one in half.tops),
        tops_chance=tuple(min(top, num_unseen - 1) / num_unseen for top in TOPS),
        num_chosen=int((own.choices[:, 0, place] == subset).sum()),
    )


def _repeated(times: TrialTimes, samples: Floats) -> Estimate:
    """Return how far the whole board agrees with itself when its studies are drawn again."""
    pairs = Pairs.of(samples.shape[1])
    whole = Subsets.of(times).masks()[-1:]
    signs = pair_signs(points(samples, times.benchmark), whole, pairs)
    again = tally(signs[1:], signs[:1]).tau()[:, 0]
    return Estimate.of(float(again.mean()), again)
