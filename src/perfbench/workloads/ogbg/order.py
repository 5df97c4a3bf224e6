"""Which graphs are in which batch: an epoch is a seeded permutation, packed greedily, cut into global batches.

How many batches an epoch has depends on its permutation (packs close early or late by chance), so the epochs are
packed one after another, each when it is first needed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from perfbench.api.workload import Shard
from perfbench.data.sampling import batch_too_large
from perfbench.workloads.ogbg.packing import Budget, IntArray, Packs, fill, pack_ends
from perfbench.workloads.ogbg.store import MoleculeStore

_EVAL_TRAIN = 0xE7A1
"""Separates the choice of the evaluated training graphs from the order of training."""


@dataclass(frozen=True, slots=True)
class PackedIds:
    """The graphs of some consecutive packs."""

    ids: IntArray
    """Places of graphs in their split, pack after pack."""
    graphs_in_packs: IntArray
    position: int
    """Where the first of them stands in the sequence that was packed."""


@dataclass(frozen=True, slots=True)
class Packer:
    """Packs the graphs of a split into batches of so many packs."""

    store: MoleculeStore
    budget: Budget
    num_packs: int

    def packed(self, ids: IntArray) -> PackedSequence:
        """Pack graphs in the given order."""
        ends = pack_ends(self.store.atom_counts[ids], self.store.bond_counts[ids], self.budget)
        return PackedSequence(ids, ends, self.num_packs)

    def filled(self, packed: PackedIds) -> Packs:
        """Return the graphs of some packs in their slots."""
        return fill(self.store, packed.ids, packed.graphs_in_packs, self.budget)


class PackedSequence:
    """Packed graphs, cut into batches.

    Args:
        ids: Places of graphs in their split, in order.
        ends: Where each pack ends.
        num_packs: Packs of a batch.
    """

    def __init__(self, ids: IntArray, ends: IntArray, num_packs: int) -> None:
        self._ids = ids
        self._bounds = np.concatenate(([0], ends))
        self._num_packs = num_packs
        self.num_whole_batches = len(ends) // num_packs
        self.num_batches = -(-len(ends) // num_packs)

    @property
    def num_graphs_in_whole_batches(self) -> int:
        """How many graphs are in batches that have all their packs."""
        return int(self._bounds[self.num_whole_batches * self._num_packs])

    def part(self, batch_index: int, shard: Shard) -> PackedIds:
        """Return a rank's packs of a batch; packs that the last batch lacks hold no graph."""
        packs = shard.part_of(self._num_packs)
        wanted = np.arange(packs.start, packs.stop + 1) + batch_index * self._num_packs
        bounds = self._bounds[np.minimum(wanted, len(self._bounds) - 1)]
        return PackedIds(self._ids[bounds[0] : bounds[-1]], np.diff(bounds), int(bounds[0]))


class TrainOrder:
    """Global batches of an endless sequence of epochs; the incomplete last batch of an epoch is dropped.

    Args:
        packer: Packs each epoch of the training split.
        seed: Of the data order.
        shard: This rank's place.

    Raises:
        WorkloadError: If the first epoch has no complete batch.
    """

    def __init__(self, packer: Packer, *, seed: int, shard: Shard) -> None:
        self._packer = packer
        self._seed = seed
        self._shard = shard
        self._lock = threading.Lock()  # the reading thread and the engine both ask
        self._first_batches = [0]
        # An epoch at full scale takes some 0.1 s to pack: on a resume once for every epoch before it.
        self._epoch = lru_cache(maxsize=2)(self._packed_epoch)
        if not self._epoch(0).num_whole_batches:
            raise batch_too_large(packer.budget.graphs * packer.num_packs, len(packer.store))

    def ranges(self, batch_index: int) -> PackedIds:
        """Return this rank's packs of global batch ``batch_index``, counted from 0 over all epochs."""
        with self._lock:
            while self._first_batches[-1] <= batch_index:
                num_batches = self._epoch(len(self._first_batches) - 1).num_whole_batches
                self._first_batches.append(self._first_batches[-1] + num_batches)
            epoch = int(np.searchsorted(self._first_batches, batch_index, side="right")) - 1
            return self._epoch(epoch).part(batch_index - self._first_batches[epoch], self._shard)

    def example_ids(self, batch_index: int) -> IntArray:
        """Return the places of its graphs in the training split."""
        return self.ranges(batch_index).ids

    def _packed_epoch(self, epoch: int) -> PackedSequence:
        generator = np.random.Generator(np.random.PCG64([self._seed, epoch]))
        return self._packer.packed(generator.permutation(len(self._packer.store)))


def eval_train_ids(num_graphs: int, *, count: int, seed: int) -> IntArray:
    """Return which of the training graphs are evaluated: drawn once by the seed, in stored order."""
    generator = np.random.Generator(np.random.PCG64([seed, _EVAL_TRAIN]))
    return np.sort(generator.choice(num_graphs, size=count, replace=False))
