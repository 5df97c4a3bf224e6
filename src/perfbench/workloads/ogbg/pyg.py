"""The prepared molecules for people who work with PyTorch Geometric: a data set of it, and our batches as its.

    from perfbench.workloads.ogbg.pyg import MoleculeDataset, as_batch

Fields and their meaning are those of the Open Graph Benchmark's data set for PyTorch Geometric, so code written for
``PygGraphPropPredDataset("ogbg-molpcba")`` runs on it. No trial needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, Dataset

from perfbench.api.workload import Batch as PackedBatch
from perfbench.workloads.ogbg.store import SPLITS, MoleculeStore


class MoleculeDataset(Dataset):  # type: ignore[misc]  # torch_geometric has no types
    """Molecules of a prepared folder, mapped into memory, as ``Data``.

    Each has ``x`` int64 ``[n, 9]``, ``edge_index`` int64 ``[2, 2 m]`` (every bond forwards and then backwards),
    ``edge_attr`` int64 ``[2 m, 3]`` and ``y`` float32 ``[1, t]``, NaN where a label is missing.

    Args:
        folder: As ``perfbench data prepare ogbg`` made it.
        transform: What is done to each ``Data``, as torch_geometric defines it.
    """

    def __init__(self, folder: str | Path, transform: object | None = None) -> None:
        super().__init__(transform=transform)
        self._stores = {split: MoleculeStore.read(Path(folder), split) for split in SPLITS}
        self._places = np.empty((sum(map(len, self._stores.values())), 2), dtype=np.int64)
        for index, store in enumerate(self._stores.values()):
            self._places[store.numbers, 0] = index
            self._places[store.numbers, 1] = np.arange(len(store))

    @property
    def num_tasks(self) -> int:
        """How many labels each molecule has, missing ones included."""
        return int(self._stores["train"].labels.shape[1])

    def len(self) -> int:
        """Return the number of molecules of all splits."""
        return len(self._places)

    def get(self, index: int) -> Data:
        """Return a molecule by its number in the public data set."""
        split, place = self._places[index].tolist()
        store = self._stores[SPLITS[split]]
        atoms = slice(*store.atom_starts[place : place + 2].tolist())
        bonds = slice(*store.bond_starts[place : place + 2].tolist())
        ends_2m = torch.from_numpy(store.bonds[bonds].astype("int64")).T
        features = torch.from_numpy(store.bond_features[bonds].astype("int64"))
        labels = torch.from_numpy(store.labels[[place]].astype("float32"))
        return Data(
            x=torch.from_numpy(store.atoms[atoms].astype("int64")),
            edge_index=torch.cat([ends_2m, ends_2m.flip(0)], dim=1),
            edge_attr=torch.cat([features, features]),
            y=labels.masked_fill(labels < 0, torch.nan),
        )

    def get_idx_split(self) -> Mapping[str, Tensor]:
        """Return the numbers of the molecules of ``train``, ``valid`` and ``test``."""
        names = dict(zip(SPLITS, ("train", "valid", "test"), strict=True))
        return {name: torch.from_numpy(np.array(self._stores[split].numbers)) for split, name in names.items()}


def as_batch(batch: PackedBatch) -> Batch:
    """Return a packed batch of the workload as a ``Batch`` of the same constant shapes.

    The dummy graph of each pack is one of its graphs. It has ``x``, ``edge_index``, ``edge_attr``, ``y`` and ``batch``
    as above, and ``weights`` float32 ``[graphs]``, 0 for dummies: what a model gives for those must not count.
    """
    num_packs, num_atoms, _ = batch["atoms"].shape
    graphs_of_pack = len(batch["weights"]) // num_packs
    pack = torch.arange(num_packs, device=batch["atoms"].device)[:, None]
    ends_2m = (batch["bonds"].long() + pack[:, :, None] * num_atoms).flatten(0, 1).T
    features = batch["bond_features"].long().flatten(0, 1)
    labels = batch["targets"].float()
    return Batch(
        batch=(batch["graph_of_atom"].long() + pack * graphs_of_pack).flatten(),
        x=batch["atoms"].long().flatten(0, 1),
        edge_index=torch.cat([ends_2m, ends_2m.flip(0)], dim=1),
        edge_attr=torch.cat([features, features]),
        y=labels.masked_fill(labels < 0, torch.nan),
        weights=batch["weights"],
    )
