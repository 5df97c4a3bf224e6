"""Binary shards: 157 bytes per row, three contiguous arrays per file, mapped into memory and never loaded whole.

Layout of a shard of ``n`` rows, little-endian: buckets int32 ``[n, 26]``, integers int32 ``[n, 13]``, labels
uint8 ``[n]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfbench.data.sampling import RowRange
from perfbench.results.files import atomic_file
from perfbench.workloads.criteo.params import NUM_CATEGORICALS, NUM_INTEGERS
from perfbench.workloads.criteo.tsv import Rows

FORMAT_VERSION = 1
BYTES_PER_ROW = 4 * NUM_CATEGORICALS + 4 * NUM_INTEGERS + 1
_MAX_OPEN = 64
"""Mapped files at a time; a mapping costs address space and no memory."""


class Mapped(NamedTuple):
    """The arrays of one shard."""

    buckets: NDArray[np.int32]
    integers: NDArray[np.int32]
    labels: NDArray[np.uint8]


def write_shard(path: Path, parts: Sequence[Rows]) -> None:
    """Write rows as one shard, atomically."""
    with atomic_file(path) as file:
        for name in ("buckets", "integers", "labels"):
            for rows in parts:
                array = np.ascontiguousarray(getattr(rows, name))
                file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)


def map_shard(path: Path, num_rows: int) -> Mapped:
    """Map a shard read-only."""
    integers_at = 4 * NUM_CATEGORICALS * num_rows
    labels_at = integers_at + 4 * NUM_INTEGERS * num_rows
    return Mapped(
        buckets=np.memmap(path, dtype="<i4", mode="r", shape=(num_rows, NUM_CATEGORICALS)),
        integers=np.memmap(path, dtype="<i4", mode="r", offset=integers_at, shape=(num_rows, NUM_INTEGERS)),
        labels=np.memmap(path, dtype="u1", mode="r", offset=labels_at, shape=(num_rows,)),
    )


class ShardReader:
    """Copies ranges of rows out of a sequence of shards.

    Args:
        paths: Shards in storage order.
        sizes: Rows of each.
    """

    def __init__(self, paths: Sequence[Path], sizes: Sequence[int]) -> None:
        self._paths = list(paths)
        self._sizes = list(sizes)
        self._ends = np.cumsum(np.asarray(sizes, dtype=np.int64))
        self._mapped = lru_cache(maxsize=_MAX_OPEN)(self._map)
        self.num_rows = int(self._ends[-1]) if len(self._ends) else 0

    def read(self, ranges: Sequence[RowRange], into: Mapped) -> int:
        """Copy ranges of rows, one after another, into arrays; return how many rows were copied."""
        filled = 0
        for rows in ranges:
            first, count = rows.first, rows.count
            while count > 0:
                shard = int(np.searchsorted(self._ends, first, side="right"))
                offset = first - int(self._ends[shard] - self._sizes[shard])
                taken = min(count, self._sizes[shard] - offset)
                mapped, target, source = (
                    self._mapped(shard),
                    slice(filled, filled + taken),
                    slice(offset, offset + taken),
                )
                into.buckets[target] = mapped.buckets[source]
                into.integers[target] = mapped.integers[source]
                into.labels[target] = mapped.labels[source]
                first, count, filled = first + taken, count - taken, filled + taken
        return filled

    def _map(self, shard: int) -> Mapped:
        return map_shard(self._paths[shard], self._sizes[shard])
