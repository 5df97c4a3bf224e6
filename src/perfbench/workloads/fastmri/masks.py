"""Which k-space columns are kept: a block around the centre, and random ones drawn from a counter-based generator.

Every mask is a pure function of a key and the number of columns. Key (0, 0) gives the masks under which the published
validation and test values were measured: they are comparable with exactly these masks.

Sources: Philox-4x32-10 is Salmon et al. (2011); key schedule, float conversion and mask rule are those of the AlgoPerf
fastMRI specification, sections 3.1 and 3.2, measured bit for bit on ``tf.random.stateless_uniform``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

EVALUATION_KEY = (0, 0)

Words = NDArray[np.uint64]
"""32-bit words, one per element, held in 64 bits so that products do not overflow."""

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_NUM_ROUNDS = 10
_SEED_KEY = (0x3EC8F720, 0x02461E29)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_WORDS_PER_BLOCK = 4


def uniforms(key: tuple[int, int], count: int) -> NDArray[np.float32]:
    """Return ``count`` numbers in [0, 1) that follow from two 64-bit integers.

    >>> [f"{number:.6f}" for number in uniforms((0, 0), 3)]
    ['0.211015', '0.706010', '0.800063']
    """
    seeds = np.array([[word] for seed in key for word in (seed & 0xFFFFFFFF, seed >> 32)], dtype=np.uint64)
    mixed = _philox(seeds, _SEED_KEY)[:, 0]
    num_blocks = -(-count // _WORDS_PER_BLOCK)
    # The 128-bit counter starts at (0, 0, mixed[2], mixed[3]): its two low words never overflow here.
    counters = np.zeros((_WORDS_PER_BLOCK, num_blocks), dtype=np.uint64)
    counters[0] = np.arange(num_blocks, dtype=np.uint64)
    counters[2:] = mixed[2:, None]
    words = _philox(counters, (int(mixed[0]), int(mixed[1]))).T.reshape(-1)[:count].astype(np.uint32)
    return ((words & np.uint32(0x7FFFFF)) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def kept_columns(
    key: tuple[int, int], num_columns: int, *, acceleration: int, center_fraction: float
) -> NDArray[np.bool_]:
    """Return which columns are kept, shape ``[num_columns]``.

    The number of centre columns is truncated, not rounded (the original fastMRI code rounds: 30 columns instead of 29
    at a width of 372).
    """
    num_center = int(num_columns * center_fraction)
    first = (num_columns - num_center + 1) // 2
    probability = np.float32((num_columns / acceleration - num_center) / (num_columns - num_center))
    kept = uniforms(key, num_columns) < probability
    kept[first : first + num_center] = True
    return kept


@lru_cache(maxsize=64)
def evaluation_columns(num_columns: int, *, acceleration: int, center_fraction: float) -> NDArray[np.bool_]:
    """Return the one mask of all validation and test slices of a width; not to be written to."""
    mask = kept_columns(EVALUATION_KEY, num_columns, acceleration=acceleration, center_fraction=center_fraction)
    mask.setflags(write=False)
    return mask


def _philox(counters: Words, key: tuple[int, int]) -> Words:
    """Return four random words for each 128-bit counter; shapes ``[4, n]``."""
    c0, c1, c2, c3 = counters
    k0, k1 = key
    for _ in range(_NUM_ROUNDS):
        p0, p1 = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _KEY_INCREMENTS[0]) & 0xFFFFFFFF, (k1 + _KEY_INCREMENTS[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])
