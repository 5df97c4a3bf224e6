"""Quasi-random points, number for number those of the AlgoPerf competition's tuner.

Source: AlgoPerf ``halton.py`` (v0.5 to v0.6) as measured in its specification: large prime bases, a permutation and
a shift for each base from NumPy's legacy generator seeded with the base, the first 100 points skipped. What differs:
the *order* of the points there came from an unseeded generator; here points keep the order of the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_NUM_SKIPPED = 100
_PRIME_LIMIT_STEP = 1000


def bases_for(num_dimensions: int) -> tuple[int, ...]:
    """Return the base of each dimension: the odd primes just before the largest one below the limit.

    The limit is 1000 and grows until there are enough primes.

    >>> bases_for(2)
    (983, 991)
    """
    limit = _PRIME_LIMIT_STEP
    primes = _odd_primes_below(limit)
    while len(primes) < num_dimensions + 1:
        limit += _PRIME_LIMIT_STEP
        primes = _odd_primes_below(limit)
    return tuple(primes[-num_dimensions - 1 : -1])


def sequence(base: int, *, num_points: int, num_skipped: int = _NUM_SKIPPED, shift: bool = True) -> list[float]:
    """Return points of one dimension in [0, 1).

    Args:
        base: A prime.
        num_points: How many.
        num_skipped: How many of the first points are left out; the point of index 0 always is.
        shift: Whether to add the base's offset, as the tuner does.
    """
    permutation, offset = _permutation_and_shift(base)
    if not shift:
        offset = 0.0
    first = num_skipped + 1
    return [
        math.fmod(_radical_inverse(index, base, permutation) + offset, 1.0)
        for index in range(first, first + num_points)
    ]


def points(num_dimensions: int, *, num_points: int) -> list[tuple[float, ...]]:
    """Return ``num_points`` points of the unit cube; fewer points are a prefix of more."""
    columns = [sequence(base, num_points=num_points) for base in bases_for(num_dimensions)]
    return list(zip(*columns, strict=True))


def _radical_inverse(index: int, base: int, permutation: Sequence[int]) -> float:
    value, scale = 0.0, 1.0 / base
    while index > 0:
        index, digit = divmod(index, base)
        value += permutation[digit] * scale
        scale /= base
    return value


def _permutation_and_shift(base: int) -> tuple[list[int], float]:
    generator = np.random.RandomState(base)
    digits = np.arange(1, base)
    generator.shuffle(digits)
    return [0, *(int(digit) for digit in digits)], float(generator.uniform())


def _odd_primes_below(limit: int) -> list[int]:
    sieve = np.ones(limit, dtype=bool)
    sieve[:3] = False
    sieve[4::2] = False
    for factor in range(3, math.isqrt(limit) + 1, 2):
        if sieve[factor]:
            sieve[factor * factor :: factor] = False
    return [int(prime) for prime in np.flatnonzero(sieve)]
