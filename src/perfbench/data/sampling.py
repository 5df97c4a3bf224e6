"""The order of training examples: a pure function of the seed, cut into equal parts for any number of ranks.

The order permutes *units* (files, or blocks of rows inside files) and keeps the rows of a unit together, so it
needs memory for the units only and is read in long contiguous ranges, also for billions of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfbench.api.workload import Shard
from perfbench.errors import WorkloadError

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowRange:
    """Consecutive rows, numbered over all files together."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class _EpochOrder:
    """The units of one epoch in their order, and the position after the last row of each."""

    epoch: int
    units: IntArray
    ends: IntArray


class UnitOrder:
    """Permutes contiguous units of rows, anew in every epoch.

    Args:
        unit_sizes: Rows of each unit, in storage order; the units follow one another without gaps.
        seed: Of the data order.
    """

    def __init__(self, unit_sizes: Sequence[int] | IntArray, *, seed: int) -> None:
        self._sizes = np.asarray(unit_sizes, dtype=np.int64)
        self._firsts = np.concatenate(([0], np.cumsum(self._sizes)[:-1]))
        self._seed = seed
        self.num_rows = int(self._sizes.sum())
        self._latest: _EpochOrder | None = None

    @classmethod
    def of_files(cls, file_sizes: Sequence[int], *, seed: int) -> UnitOrder:
        """Shuffle whole files; rows inside a file keep their order."""
        return cls(file_sizes, seed=seed)

    @classmethod
    def of_blocks(cls, file_sizes: Sequence[int], *, block_rows: int, seed: int) -> UnitOrder:
        """Shuffle blocks of ``block_rows`` rows; a block never spans two files."""
        sizes: list[int] = []
        for size in file_sizes:
            full, rest = divmod(size, block_rows)
            sizes += [block_rows] * full + ([rest] if rest else [])
        return cls(sizes, seed=seed)

    def ranges(self, epoch: int, start: int, count: int) -> list[RowRange]:
        """Return which rows stand at positions ``start`` to ``start + count`` of an epoch's order."""
        order = self._order_of(epoch)
        found: list[RowRange] = []
        place = int(np.searchsorted(order.ends, start, side="right"))
        while count > 0:
            unit = order.units[place]
            offset = start - int(order.ends[place] - self._sizes[unit])
            taken = min(count, int(self._sizes[unit]) - offset)
            found.append(RowRange(int(self._firsts[unit]) + offset, taken))
            start, count, place = start + taken, count - taken, place + 1
        return found

    def first_rows(self, count: int) -> IntArray:
        """Return the first rows of the first epoch's order, as numbers."""
        parts = [np.arange(rows.first, rows.first + rows.count) for rows in self.ranges(0, 0, count)]
        return np.concatenate(parts).astype(np.int64)

    def _order_of(self, epoch: int) -> _EpochOrder:
        """Return an epoch's order: one value, replaced whole, since the reading thread and a trace both ask."""
        latest = self._latest
        if latest is None or latest.epoch != epoch:
            generator = np.random.Generator(np.random.PCG64([self._seed, epoch]))
            units = generator.permutation(len(self._sizes))
            latest = self._latest = _EpochOrder(epoch, units, np.cumsum(self._sizes[units]))
        return latest


class BatchOrder:
    """Cuts an endless sequence of epochs into global batches and those into ranks' parts.

    The incomplete last batch of an epoch is dropped.

    Raises:
        WorkloadError: If there is no complete batch.
    """

    def __init__(self, units: UnitOrder, *, global_batch_size: int, shard: Shard) -> None:
        self._units = units
        self._global_batch_size = global_batch_size
        self._part = shard.part_of(global_batch_size)
        self.batches_per_epoch = units.num_rows // global_batch_size
        if not self.batches_per_epoch:
            raise batch_too_large(global_batch_size, units.num_rows)

    def ranges(self, batch_index: int) -> list[RowRange]:
        """Return the rows of this rank's part of global batch ``batch_index``, counted from 0 over all epochs."""
        epoch, index = divmod(batch_index, self.batches_per_epoch)
        start = index * self._global_batch_size + self._part.start
        return self._units.ranges(epoch, start, self._part.stop - self._part.start)

    def example_ids(self, batch_index: int) -> IntArray:
        """Return the same rows as numbers."""
        parts = [np.arange(rows.first, rows.first + rows.count) for rows in self.ranges(batch_index)]
        return np.concatenate(parts).astype(np.int64)


def batch_too_large(global_batch_size: int, num_examples: int) -> WorkloadError:
    """Return the error that a batch needs more than an epoch of training has."""
    return WorkloadError(
        f"a batch of {global_batch_size} needs more examples than the {num_examples} of an epoch",
        where="batch size",
        hint="the incomplete last batch of an epoch is dropped, and none would be left: choose a smaller one",
    )


def padded_part(num_examples: int, *, global_batch_size: int, shard: Shard) -> list[tuple[int, int]]:
    """Return ``(first, count)`` of each of this rank's evaluation batches over examples ``0..num_examples``.

    Every rank gets the same number of batches; ``count`` is below the rank's batch size (or zero) at the end.
    """
    part, size = shard.part_of(global_batch_size), shard.size_of(global_batch_size)
    num_batches = -(-num_examples // global_batch_size)
    firsts = [batch * global_batch_size + part.start for batch in range(num_batches)]
    return [(first, max(0, min(size, num_examples - first))) for first in firsts]


def evaluation_ranges(
    num_examples: int, order: UnitOrder | None, *, global_batch_size: int, shard: Shard
) -> Iterator[list[RowRange]]:
    """Yield the rows of each of this rank's evaluation batches over ``num_examples``, as ``padded_part`` cuts them.

    Args:
        num_examples: Over all ranks.
        order: Whose first epoch starts with the examples; ``None`` for rows as they are stored.
        global_batch_size: Over all ranks.
        shard: This rank.
    """
    for first, count in padded_part(num_examples, global_batch_size=global_batch_size, shard=shard):
        yield [RowRange(first, count)] if order is None else order.ranges(0, first, count)
