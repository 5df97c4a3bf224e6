"""Packs of molecules that nobody made: trees with a few rings, of common and rare atoms."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from perfbench.data.inventing import Inventor
from perfbench.workloads.ogbg.packing import MISSING, Budget, IntArray, Packs, fill, pack_ends
from perfbench.workloads.ogbg.params import ATOM_CATEGORIES, BOND_CATEGORIES
from perfbench.workloads.ogbg.store import Molecules, MoleculeStore, starts_of

_SMALLEST_SHARE, _LARGEST_SHARE = 0.4, 1.6
"""Atoms of a graph over the room that a pack has for each: the mean is 1, as budgets are chosen."""
_MAX_RINGS = 4
_POSITIVE_RATE, _MISSING_RATE = 0.02, 0.4


def invented_packs(drawn: Inventor, budget: Budget, num_packs: int, *, num_tasks: int) -> Packs:
    """Return packs filled in the order of random graphs, as real ones are."""
    store = _store(drawn, budget, num_packs * budget.graphs, num_tasks)
    bounds = np.concatenate(([0], pack_ends(store.atom_counts, store.bond_counts, budget)))[: num_packs + 1]
    return fill(store, np.arange(bounds[-1]), np.diff(bounds), budget)


def _store(drawn: Inventor, budget: Budget, num_graphs: int, num_tasks: int) -> MoleculeStore:
    """Return so many graphs; each fits into a pack."""
    room = budget.atoms // budget.graphs
    shares = drawn.uniform(_SMALLEST_SHARE, _LARGEST_SHARE, num_graphs)
    most_atoms = min(budget.atoms, max(1, budget.bonds - _MAX_RINGS))
    atom_counts = (room * shares).to(torch.int64).clamp(1, most_atoms).numpy()
    rings = drawn.integers(0, _MAX_RINGS + 1, num_graphs, dtype=torch.int64).numpy()
    bond_counts = np.minimum(np.where(atom_counts > 1, atom_counts - 1 + rings, 0), budget.bonds)
    labels = drawn.uniform(0.0, 1.0, num_graphs, num_tasks).numpy()
    codes = np.where(labels < _POSITIVE_RATE, 1, np.where(labels > 1 - _MISSING_RATE, MISSING, 0))
    return MoleculeStore(
        Molecules(
            atoms=_columns(drawn, ATOM_CATEGORIES, int(atom_counts.sum())),
            bonds=_bonds(drawn, atom_counts, bond_counts),
            bond_features=_columns(drawn, BOND_CATEGORIES, int(bond_counts.sum())),
            atom_starts=starts_of(atom_counts),
            bond_starts=starts_of(bond_counts),
            labels=codes.astype(np.int8),
            numbers=np.arange(num_graphs),
        )
    )


def _columns(drawn: Inventor, sizes: tuple[int, ...], count: int) -> NDArray[np.uint8]:
    """Return categories ``[count, columns]``; a few of each column are common."""
    columns = torch.stack([drawn.ranks(size, count) for size in sizes], dim=1).to(torch.uint8)
    found: NDArray[np.uint8] = columns.numpy()
    return found


def _bonds(drawn: Inventor, atom_counts: IntArray, bond_counts: IntArray) -> NDArray[np.uint16]:
    """Return both ends ``[bonds, 2]``: each atom but the first with an earlier one, then any two (rings)."""
    of_graph = np.repeat(atom_counts, bond_counts)
    place = np.arange(len(of_graph)) - np.repeat(np.cumsum(bond_counts) - bond_counts, bond_counts)
    second = np.where(place + 1 < of_graph, place + 1, _below(drawn, np.maximum(of_graph, 1)))
    first = _below(drawn, np.maximum(second, 1))
    return np.stack([first, second], axis=1).astype(np.uint16)


def _below(drawn: Inventor, limits: IntArray) -> IntArray:
    shares = drawn.uniform(0.0, 1.0, len(limits)).numpy()
    return np.minimum((shares * limits).astype(np.int64), limits - 1)
