"""Token arrays to batches: the order of training rows, padded evaluation rows, and the texts that BLEU compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from perfbench.api.workload import Batch, Shard, TrainStream
from perfbench.data.sampling import BatchOrder, RowRange, UnitOrder, padded_part
from perfbench.data.stream import RowStream
from perfbench.spec.workload import Split
from perfbench.workloads.wmt.packing import filled, row_starts
from perfbench.workloads.wmt.params import EOS_ID, Params
from perfbench.workloads.wmt.prepare import REFERENCES, corpora_of
from perfbench.workloads.wmt.token_store import PairStore, Tokens
from perfbench.workloads.wmt.tokenizer import Tokenizer

IntArray = NDArray[np.int64]

PUBLISHED_GROUP_SIZE = 256
_NOTHING = np.asarray([EOS_ID], dtype=np.uint16)
"""What padded evaluation rows hold: attention always has something to attend to."""


class TrainingRows:
    """All rows of training pairs in an order that the seed fixes; each epoch visits every row in another order.

    A row is the example: pairs are dealt to rows once, after a permutation of all of them, so an epoch has the same
    number of rows every time and any batch can be found without those before it. Pairs with a side longer than a
    row are left out, as published.
    """

    def __init__(self, store: PairStore, params: Params, *, seed: int) -> None:
        self._store = store
        self._row_length = params.row_length
        sources, targets = store.sources.lengths(), store.targets.lengths()
        fits = fitting_pairs(store, row_length=params.row_length)
        self.pairs: IntArray = np.random.Generator(np.random.PCG64(seed)).permutation(fits)
        if params.batching == "padded":
            self.starts = np.arange(len(self.pairs) + 1, dtype=np.int64)
        else:
            group_size = PUBLISHED_GROUP_SIZE if params.as_published else None
            lengths = (sources[self.pairs], targets[self.pairs])
            self.starts = row_starts(*lengths, row_length=params.row_length, group_size=group_size)

    @property
    def num_rows(self) -> int:
        """Return how many rows an epoch has."""
        return len(self.starts) - 1

    def stream(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open one rank's endless stream."""
        units = UnitOrder.of_blocks([self.num_rows], block_rows=1, seed=seed)
        return RowStream(BatchOrder(units, global_batch_size=global_batch_size, shard=shard), self.batch)

    def batch(self, ranges: Sequence[RowRange]) -> Batch:
        """Read rows."""
        rows = [row for part in ranges for row in range(part.first, part.first + part.count)]
        members = [self.pairs[self.starts[row] : self.starts[row + 1]].tolist() for row in rows]
        sources = [[self._store.sources[pair] for pair in pairs] for pairs in members]
        targets = [[self._store.targets[pair] for pair in pairs] for pairs in members]
        return batch_of_rows(sources, targets, row_length=self._row_length)


class EvaluationPairs:
    """The pairs of a split, shortest source first, one in a row; nothing is left out.

    Sides longer than a row are cut, the reference text is not. The order only makes decoding end early.

    Args:
        store: All pairs of the stored split.
        pairs: Which of them.
        row_length: Tokens of a row.
    """

    def __init__(self, store: PairStore, pairs: IntArray, *, row_length: int) -> None:
        self._store = store
        self._row_length = row_length
        lengths = store.sources.lengths()[pairs]
        self.pairs: IntArray = pairs[np.argsort(lengths, kind="stable")]

    def batches(self, *, global_batch_size: int, shard: Shard) -> Iterator[Batch]:
        """Yield one rank's batches."""
        size = shard.size_of(global_batch_size)
        for first, count in padded_part(len(self.pairs), global_batch_size=global_batch_size, shard=shard):
            pairs = self.pairs[first : first + count].tolist()
            rows = (
                [[self._cut(self._store.sources[pair])] for pair in pairs],
                [[self._cut(self._store.targets[pair])] for pair in pairs],
            )
            padding = [[_NOTHING]] * (size - count)
            batch = batch_of_rows(rows[0] + padding, rows[1] + padding, row_length=self._row_length)
            batch["weights"] = (torch.arange(size) < count).to(torch.float32)
            batch["pairs"] = torch.tensor(pairs + [0] * (size - count), dtype=torch.int64)
            yield batch

    def _cut(self, tokens: Tokens) -> Tokens:
        return tokens[: self._row_length]


class References:
    """The English side of a stored split as text.

    Args:
        folder: Of the prepared data.
        split: A stored split.
        store: Its token arrays.
        tokenizer: Decodes them.
    """

    def __init__(self, folder: Path, split: str, store: PairStore, tokenizer: Tokenizer) -> None:
        self._store = store
        self._tokenizer = tokenizer
        names = [folder / f"{corpus}.{REFERENCES}" for corpus in corpora_of(split)] if split != "train" else []
        self._published = [line for name in names for line in name.read_bytes().decode().split("\n")[:-1]]

    def round_trip(self, pairs: Sequence[int]) -> list[str]:
        """Return the texts as tokenised and decoded again: what the published metric compares with."""
        return self._tokenizer.decode([self._store.targets[pair].tolist() for pair in pairs])

    def published(self, pairs: Sequence[int]) -> list[str]:
        """Return the texts of the distributed file; of a test set only."""
        return [self._published[pair] for pair in pairs]


def fitting_pairs(store: PairStore, *, row_length: int) -> IntArray:
    """Return the pairs of which neither side is longer than a row."""
    return np.flatnonzero(np.maximum(store.sources.lengths(), store.targets.lengths()) <= row_length)


def eval_train_pairs(rows: TrainingRows, count: int) -> IntArray:
    """Return a fixed sample of training pairs: the first of the seed's permutation."""
    return rows.pairs[:count]


def stored_split(split: Split) -> str:
    """Return where a split's pairs are stored."""
    return "train" if split is Split.EVAL_TRAIN else split.value


def batch_of_rows(
    sources: Sequence[Sequence[Tokens]], targets: Sequence[Sequence[Tokens]], *, row_length: int
) -> Batch:
    """Return the tensors of both sides of rows, given the sentences of each row."""
    return {
        f"{side}_{name}": torch.from_numpy(array)
        for side, rows in (("source", sources), ("target", targets))
        for name, array in filled(rows, row_length=row_length).items()
    }
