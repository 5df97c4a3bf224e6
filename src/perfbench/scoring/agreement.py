"""How far two rankings of the same submissions agree: Kendall's tau and top places. Arrays only, no benchmark.

A ranking is held as the sign of every pair, so that hundreds of rankings by thousands of samples are one product of
matrices.

Source: Kendall (1948), Rank Correlation Methods, chapter 3: tau-b, which gives tied pairs no vote on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfbench.results.trials import Floats, Integers

Signs = NDArray[np.float32]
"""-1, 0 or 1 per pair: single precision, because they are multiplied as matrices."""
_GRID = 2.0**18
"""Points are rounded to such parts of one, so that sums of a dozen are exact in single precision, and ties are ties."""
_TIED = 1e-9


class Pairs(NamedTuple):
    """Every pair of submissions once: ``first < second``."""

    first: Integers
    second: Integers

    @classmethod
    def of(cls, num_submissions: int) -> Pairs:
        """Return all pairs of so many submissions."""
        first, second = np.triu_indices(num_submissions, 1)
        return cls(first.astype(np.int64), second.astype(np.int64))

    def within(self, members: NDArray[np.bool_]) -> Pairs:
        """Return the pairs of which both are members, by ``[submission]``."""
        kept = members[self.first] & members[self.second]
        return Pairs(self.first[kept], self.second[kept])

    def with_one(self, submission: int) -> Pairs:
        """Return the pairs that a submission is in."""
        kept = (self.first == submission) | (self.second == submission)
        return Pairs(self.first[kept], self.second[kept])


def pair_signs(points: Floats, masks: Floats, pairs: Pairs) -> Signs:
    """Return who is ahead in every pair, for every board.

    Args:
        points: ``[..., submission, workload]``, each 0 to 1.
        masks: ``[..., board, workload]``: 1 for the workloads of each board.
        pairs: Which pairs.

    Returns:
        ``[..., pair, board]``: 1 where the first is ahead, -1 where the second is, 0 where they are level.
    """
    whole = np.round(points * _GRID).astype(np.float32)
    differences = whole[..., pairs.first, :] - whole[..., pairs.second, :]
    ahead = differences @ np.swapaxes(masks, -1, -2).astype(np.float32)
    signs: Signs = np.sign(ahead, out=ahead)
    return signs


class Tally(NamedTuple):
    """Sums over pairs, from which tau follows; tallies of different pairs add up."""

    together: Floats
    """Pairs in the same order less pairs in the opposite one."""
    first_untied: Floats
    second_untied: Floats

    def tau(self) -> Floats:
        """Return Kendall's tau-b; 0 where one ranking orders no pair: it tells nothing."""
        scale = np.sqrt(self.first_untied * self.second_untied)
        tau: Floats = np.divide(self.together, scale, out=np.zeros_like(scale), where=scale > 0)
        return tau


def tally(first: Signs, second: Signs, weights: Floats | None = None) -> Tally:
    """Count pairs on which two rankings agree.

    Args:
        first: ``[..., pair, board]``.
        second: As the first, or with one board.
        weights: ``[..., pair]``: how often a pair counts; once, unless given.

    Returns:
        By ``[..., board]``.

    >>> signs = np.array([[1.0], [1.0], [-1.0]], dtype=np.float32)
    >>> tally(signs, np.array([[1.0], [1.0], [1.0]], dtype=np.float32)).tau().round(4).tolist()
    [0.3333]
    """
    counted = np.ones(first.shape[:-1], dtype=np.float32) if weights is None else weights.astype(np.float32)
    weighted = second * counted[..., None]
    if second.shape[-1] == 1:  # one board against all: a product of matrices
        agreeing = (np.swapaxes(weighted, -1, -2) @ first)[..., 0, :]
    else:
        agreeing = np.einsum("...pb,...pb->...b", first, weighted)
    first_counts = np.einsum("...pb,...pb,...p->...b", first, first, counted)
    second_counts = np.einsum("...pb,...pb->...b", second, weighted)
    together = agreeing.astype(np.float64)
    return Tally(
        together, first_counts.astype(np.float64), np.broadcast_to(second_counts, together.shape).astype(np.float64)
    )


def sum_of(tallies: Sequence[Tally]) -> Tally:
    """Return the tally of all pairs of several."""
    return Tally(*(np.sum([one[part] for one in tallies], axis=0) for part in range(len(Tally._fields))))


def kendall_tau(first: Floats, second: Floats) -> float:
    """Return tau-b of two lists of scores of the same submissions.

    >>> kendall_tau(np.array([0.3, 0.2, 0.1]), np.array([3.0, 2.0, 1.0]))
    1.0
    """
    pairs = Pairs.of(len(first))
    one_board = np.ones((1, 1))
    one, two = (pair_signs(each[:, None] / (np.abs(each).max() or 1.0), one_board, pairs) for each in (first, second))
    return float(tally(one, two).tau()[0])


def places(scores: Floats, num_places: int) -> Floats:
    """Return how much of the first places each submission has: those level at the edge share what is left.

    Args:
        scores: ``[..., submission, board]``, higher is better.
        num_places: How many first places there are.

    >>> places(np.array([[0.9], [0.5], [0.5], [0.1]]), 2)[:, 0].tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    edge = -np.sort(-scores, axis=-2)[..., num_places - 1 : num_places, :]
    above = scores > edge + _TIED
    level = np.abs(scores - edge) <= _TIED
    left = num_places - above.sum(axis=-2, keepdims=True)
    shared: Floats = np.where(above, 1.0, np.where(level, left / level.sum(axis=-2, keepdims=True), 0.0))
    return shared


def same_places(first: Floats, second: Floats, num_places: int) -> Floats:
    """Return the share of the first places that two boards give to the same submissions.

    Args:
        first: ``[..., submission, board]``.
        second: As the first, or with one board.
        num_places: How many first places there are.

    >>> same_places(np.array([[3.0], [2.0], [1.0]]), np.array([[3.0], [1.0], [2.0]]), 2).tolist()
    [0.5]
    """
    share: Floats = np.minimum(places(first, num_places), places(second, num_places)).sum(axis=-2) / num_places
    return share
