"""Rows to batches: the order of training rows, and the fixed rows of evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from perfbench.api.workload import Batch, Shard, TrainStream
from perfbench.data.sampling import BatchOrder, RowRange, UnitOrder, padded_part
from perfbench.data.stream import RowStream
from perfbench.spec.workload import Split
from perfbench.workloads.finewebedu_lm.params import Params, StoredSplit
from perfbench.workloads.finewebedu_lm.token_store import Rows

_EVALUATION_SEED = 0


def stored_split(split: Split) -> StoredSplit:
    """Return where a split's rows are stored."""
    match split:
        case Split.EVAL_TRAIN:
            return "train"
        case Split.VALIDATION:
            return "validation"
        case Split.TEST:
            return "test"


class TrainingRows:
    """All training rows, in an order that the seed fixes; each epoch visits every row in another order.

    Args:
        rows: Of the training split.
        seed: Of the data order.
    """

    def __init__(self, rows: Rows, *, seed: int) -> None:
        self._rows = rows
        self._units = UnitOrder(np.ones(len(rows), dtype=np.int64), seed=seed)

    def stream(self, *, global_batch_size: int, shard: Shard) -> TrainStream:
        """Open one rank's endless stream."""
        return RowStream(BatchOrder(self._units, global_batch_size=global_batch_size, shard=shard), self.batch)

    def batch(self, ranges: Sequence[RowRange]) -> Batch:
        """Read rows."""
        return batch_of(self._rows.read(row for part in ranges for row in range(part.first, part.first + part.count)))

    def sample(self, count: int) -> NDArray[np.int64]:
        """Return the numbers of a random sample of rows, which the seed fixes, in stored order."""
        return np.sort(self._units.first_rows(count))


@cache
def fixed_rows(num_rows: int, count: int) -> NDArray[np.int64]:
    """Return which rows of a split are evaluated: the first of one permutation of all, in stored order.

    A smaller number of them is a part of a larger one.

    >>> fixed_rows(5, 2).tolist(), fixed_rows(5, 3).tolist()
    ([0, 2], [0, 1, 2])
    """
    return np.sort(np.random.RandomState(_EVALUATION_SEED).permutation(num_rows)[:count])


def evaluation_batches(
    rows: Rows, numbers: NDArray[np.int64], *, global_batch_size: int, shard: Shard
) -> Iterator[Batch]:
    """Yield one rank's batches of the numbered rows, the last ones filled with the first row at weight zero."""
    size = shard.size_of(global_batch_size)
    for first, count in padded_part(len(numbers), global_batch_size=global_batch_size, shard=shard):
        chosen = numbers[first : first + count].tolist() + [0] * (size - count)
        batch = batch_of(rows.read(chosen))
        batch["weights"] = (torch.arange(size) < count).to(torch.float32)
        yield batch


def invented_batch(params: Params, *, batch_size: int, seed: int, is_weighted: bool) -> Batch:
    """Return rows of random tokens, the frequent ones as much more frequent as in text (Zipf's law)."""
    generator = np.random.Generator(np.random.PCG64(seed))
    shape = (batch_size, params.row_length + 1)
    ids = np.floor(params.vocab_size ** generator.random(shape)).astype(np.int32) - 1
    batch = batch_of(ids)
    if is_weighted:
        batch["weights"] = torch.ones(batch_size)
    return batch


def batch_of(tokens: NDArray[np.int32]) -> Batch:
    """Return rows ``[b, t + 1]`` as inputs and, one token later, targets."""
    ids = torch.from_numpy(tokens)
    return {"input_ids": ids[:, :-1].contiguous(), "target_ids": ids[:, 1:].contiguous()}
