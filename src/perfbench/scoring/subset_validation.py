"""Whether a subset that was chosen because it agrees agrees on submissions that nobody looked at when choosing.

Choosing the best of hundreds of subsets by eleven submissions finds one that fits these eleven. So the choice is made
again without some of them, on a board on which they are not, and judged by the pairs that only they make.

- Leave one out: every submission in turn; judged by its pairs with all others.
- Leave half out: many divisions; judged by the pairs of which neither was seen.
- Chance: the same with the submissions of every workload shuffled, so that no workload says anything of another. A
  subset is a part of the board that it is compared with, so this is not zero.

Source: Stone (1974), Cross-validatory choice and assessment of statistical predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import Floats, Integers
from perfbench.scoring.agreement import Pairs, Signs, Tally, pair_signs, same_places, sum_of, tally
from perfbench.scoring.subsets import Subsets, best_so_far, points

TOPS = (1, 3)
CHUNK = 16
"""Samples at once: their signs fit a processor's cache."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What every validation needs: the subsets, and up to which of them, in order of cost, one may choose."""

    benchmark: Benchmark
    masks: Floats
    """``[subset, 2 x workload]``, in order of cost; the last one is the whole board."""
    rest_masks: Floats
    caps: Integers
    """``[cap]``: numbers of subsets; a choice is among those up to it."""

    @classmethod
    def of(cls, benchmark: Benchmark, subsets: Subsets, caps: Integers) -> Judge:
        """Judge choices among subsets up to the last cap."""
        asked = subsets.up_to(int(caps[-1]))
        return cls(benchmark, asked.masks(), asked.rest_masks(), caps)

    def signs(self, times_s: Floats, pairs: Pairs) -> Signs:
        """Return who is ahead: ``[sample, pair, subset]``."""
        return pair_signs(points(times_s, self.benchmark), self.masks, pairs)

    def choices(self, times_s: Floats, seen: NDArray[np.bool_]) -> Integers:
        """Choose under every cap by the submissions that are seen, on a board of them alone.

        Args:
            times_s: ``[sample, submission, workload]``.
            seen: ``[submission]``.

        Returns:
            Numbers of subsets: ``[sample, cap]``.
        """
        alone = np.where(seen[:, None], times_s, np.inf)
        signs = self.signs(alone, Pairs.of(times_s.shape[-2]).within(seen))
        agreement = tally(signs, signs[..., -1:]).tau()
        return best_so_far(agreement, dearest=True)[:, self.caps]


class Validated(NamedTuple):
    """What the choices are worth: ``[sample, cap]``."""

    whole: Floats
    """Tau with the whole board."""
    rest: Floats
    """Tau with the board of the workloads that were not chosen; 0 where none is left."""


class Resampled(NamedTuple):
    """Leave-one-out agreement of samples, with and without submissions drawn too."""

    in_sample: Floats
    """``[sample, subset]``: tau of every subset with the whole board."""
    validated: Validated
    drawn: Validated
    """The same with each submission counted as often as it was drawn."""
    choices: Integers
    """``[submission left out, sample, cap]``."""


def leave_one_out(judge: Judge, times_s: Floats, counts: Floats | None = None) -> Resampled:
    """Choose without each submission in turn and judge by its pairs with the others.

    Args:
        judge: Subsets and caps.
        times_s: ``[sample, submission, workload]``: medians over studies.
        counts: ``[sample, submission]``: how often each was drawn; once, unless given.
    """
    parts = []
    for start in range(0, len(times_s), CHUNK):
        chosen = slice(start, start + CHUNK)
        parts.append(_leave_one_out(judge, times_s[chosen], None if counts is None else counts[chosen]))
    return Resampled(
        np.concatenate([part.in_sample for part in parts]),
        _joined([part.validated for part in parts]),
        _joined([part.drawn for part in parts]),
        np.concatenate([part.choices for part in parts], axis=1),
    )


def _joined(parts: Sequence[Validated]) -> Validated:
    return Validated(np.concatenate([one.whole for one in parts]), np.concatenate([one.rest for one in parts]))


def _leave_one_out(judge: Judge, times_s: Floats, counts: Floats | None) -> Resampled:
    num_submissions = times_s.shape[1]
    pairs = Pairs.of(num_submissions)
    signs = judge.signs(times_s, pairs)
    whole = signs[..., -1:]
    worth = points(times_s, judge.benchmark)
    weights = None if counts is None else counts[:, pairs.first] * counts[:, pairs.second]
    sums: list[list[Tally]] = [[], [], [], []]
    choices = []
    for left_out in range(num_submissions):
        chosen = judge.choices(times_s, np.arange(num_submissions) != left_out)
        choices.append(chosen)
        its = (pairs.first == left_out) | (pairs.second == left_out)
        placed = np.take_along_axis(signs[:, its], chosen[:, None, :], axis=-1)
        left = pair_signs(worth, judge.rest_masks[chosen], Pairs(pairs.first[its], pairs.second[its]))
        by_pair = None if weights is None else weights[:, its]
        for one, (other, counted) in zip(
            sums, ((whole[:, its], None), (left, None), (whole[:, its], by_pair), (left, by_pair)), strict=True
        ):
            one.append(tally(placed, other, counted))
    found = [sum_of(one).tau() for one in sums]
    return Resampled(tally(signs, whole).tau(), Validated(*found[:2]), Validated(*found[2:]), np.stack(choices))


class HalfOut(NamedTuple):
    """Leave-half-out agreement: ``[sample, cap]``, and of first places ``[top, sample, cap]``."""

    whole: Floats
    tops: Floats
    """Share of the first places among those left out that the chosen subset gives to the same submissions."""


def leave_half_out(judge: Judge, times_s: Floats, splits: Sequence[tuple[int, ...]]) -> HalfOut:
    """Choose without half of the submissions and judge by the pairs within that half.

    Args:
        judge: Subsets and caps.
        times_s: ``[sample, submission, workload]``.
        splits: Which submissions are left out, each time.
    """
    num_submissions = times_s.shape[1]
    worth = points(times_s, judge.benchmark)
    tallies, tops = [], np.zeros((len(TOPS), len(times_s), len(judge.caps)))
    for split in splits:
        unseen = np.isin(np.arange(num_submissions), split)
        chosen = judge.choices(times_s, ~unseen)
        signs = pair_signs(worth, judge.masks, Pairs.of(num_submissions).within(unseen))
        tallies.append(tally(np.take_along_axis(signs, chosen[:, None, :], axis=-1), signs[..., -1:]))
        scores = np.einsum("nsw,ncw->nsc", worth[:, unseen], judge.masks[chosen])
        full = worth[:, unseen] @ judge.masks[-1:].T
        for row, top in enumerate(TOPS):
            tops[row] += same_places(scores, full, min(top, len(split) - 1)) / len(splits)
    return HalfOut(sum_of(tallies).tau(), tops)


def splits_of(num_submissions: int, most: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Return divisions that leave half of the submissions out: all of them, or as many drawn at random.

    >>> len(splits_of(4, 100, np.random.default_rng(0))), len(splits_of(11, 50, np.random.default_rng(0)))
    (6, 50)
    """
    found = list(combinations(range(num_submissions), num_submissions // 2))
    if len(found) <= most:
        return found
    return [found[number] for number in sorted(generator.choice(len(found), most, replace=False).tolist())]


def shuffled(times_s: Floats, benchmark: Benchmark, num_samples: int, generator: np.random.Generator) -> Floats:
    """Shuffle the submissions on every base workload, its variants with it: no workload says anything of another.

    Args:
        times_s: ``[submission, workload]``.
        benchmark: Which workloads are variants of which.
        num_samples: How often.
        generator: Of random numbers.

    Returns:
        ``[sample, submission, workload]``.
    """
    names = list(benchmark.workloads)
    mixed = np.empty((num_samples, *times_s.shape))
    for base in benchmark.base_workloads():
        columns = [column for column, name in enumerate(names) if base in (name, benchmark.workloads[name].base)]
        order = generator.random((num_samples, len(times_s))).argsort(axis=1)
        mixed[:, :, columns] = times_s[:, columns][order]
    return mixed
