"""Packing: graphs of any size into packs of fixed shape.

A pack is filled in the order of the graphs until one of its three limits would be broken. Spare room belongs to one
dummy graph: it takes all spare atoms (always at least one), and spare bonds are loops on the first of them.

Source: AlgoPerf ``ogbg``, which packs so for each device (specification, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfbench.errors import DataError
from perfbench.workloads.ogbg.params import ATOM_CATEGORIES, BOND_CATEGORIES, Params
from perfbench.workloads.ogbg.store import MoleculeStore, expanded

IntArray = NDArray[np.int64]
MISSING = -1
"""A label that nobody measured."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a pack can hold, without its dummy graph."""

    graphs: int
    atoms: int
    bonds: int

    @classmethod
    def of_batch(cls, params: Params, global_batch_size: int) -> Budget:
        """Return the room of each pack of a batch.

        Raises:
            DataError: If the batch cannot be cut into equal packs.
        """
        graphs, remainder = divmod(global_batch_size, params.num_packs)
        if remainder or not graphs:
            raise DataError(
                f"a batch of {global_batch_size} graphs cannot be cut into {params.num_packs} equal packs",
                where="workload.params.num_packs",
                hint="choose a multiple as batch size, or another number of packs that the ranks divide",
            )
        return cls(graphs, graphs * params.atoms_per_graph, graphs * params.bonds_per_graph)

    def require_room(self, *, atoms: int, bonds: int, where: str) -> None:
        """Check that a graph fits.

        Raises:
            DataError: If it would need more than a whole pack: nothing is ever left out silently.
        """
        if atoms > self.atoms or bonds > self.bonds:
            raise DataError(
                f"a graph of {atoms} atoms and {bonds} bonds does not fit into a pack for {self.atoms} atoms and "
                f"{self.bonds} bonds",
                where=where,
                hint="use a larger batch, or fewer packs: workload.params.num_packs=...",
            )


def pack_ends(atom_counts: NDArray[np.int64], bond_counts: NDArray[np.int64], budget: Budget) -> IntArray:
    """Return where each pack ends when graphs are taken in order; all graphs must fit.

    >>> counts = np.asarray([30, 25, 10, 22, 20]), np.asarray([30, 25, 10, 30, 28])
    >>> pack_ends(*counts, Budget(graphs=2, atoms=52, bonds=56)).tolist()
    [1, 3, 4, 5]
    """
    atoms_before = np.concatenate(([0], np.cumsum(atom_counts)))
    bonds_before = np.concatenate(([0], np.cumsum(bond_counts)))
    # For each graph as the first of a pack: the last that fits, by each limit.
    by_atoms = np.searchsorted(atoms_before, atoms_before[:-1] + budget.atoms, side="right") - 1
    by_bonds = np.searchsorted(bonds_before, bonds_before[:-1] + budget.bonds, side="right") - 1
    by_graphs = np.arange(len(atom_counts)) + budget.graphs
    next_first = np.minimum(np.minimum(by_atoms, by_bonds), by_graphs).tolist()
    ends: list[int] = []
    first = 0
    while first < len(next_first):
        assert next_first[first] > first, f"graph {first} does not fit"
        first = next_first[first]
        ends.append(min(first, len(next_first)))
    return np.asarray(ends, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Packs:
    """Graphs in slots: p packs of n atoms, m bonds and g graphs, the dummy graph included."""

    atoms: NDArray[np.uint8]
    """Shape ``[p, n, 9]``; zero where spare."""
    bonds: NDArray[np.int32]
    """Shape ``[p, m, 2]``: both ends, as atom numbers within the pack."""
    bond_features: NDArray[np.uint8]
    """Shape ``[p, m, 3]``."""
    graph_of_atom: NDArray[np.int32]
    """Shape ``[p, n]``: graph number within the pack."""
    targets: NDArray[np.int8]
    """Shape ``[p * g, t]``: 0, 1, or -1 where there is no label."""
    weights: NDArray[np.float32]
    """Shape ``[p * g]``: 1 for graphs, 0 for dummies."""
    slots: IntArray
    """Which of the ``p * g`` places each graph has, in order."""


def fill(store: MoleculeStore, ids: IntArray, graphs_in_packs: IntArray, budget: Budget) -> Packs:
    """Put graphs into packs.

    Args:
        store: Where the graphs are.
        ids: Their places there, pack after pack.
        graphs_in_packs: How many belong to each pack; zero leaves a pack to its dummy graph.
        budget: What each pack can hold.
    """
    num_packs = len(graphs_in_packs)
    atom_slots, bond_slots, graph_slots = budget.atoms + 1, budget.bonds, budget.graphs + 1
    pack_of_graph = np.repeat(np.arange(num_packs), graphs_in_packs)
    place = np.arange(len(ids)) - np.repeat(np.cumsum(graphs_in_packs) - graphs_in_packs, graphs_in_packs)
    atom_counts, bond_counts = store.atom_counts[ids], store.bond_counts[ids]
    atom_offsets, num_atoms = _offsets(atom_counts, pack_of_graph, num_packs)
    bond_offsets, _ = _offsets(bond_counts, pack_of_graph, num_packs)

    atoms = np.zeros((num_packs * atom_slots, len(ATOM_CATEGORIES)), dtype=np.uint8)
    graph_of_atom = np.repeat(graphs_in_packs.astype(np.int32), atom_slots)
    to_atoms = expanded(pack_of_graph * atom_slots + atom_offsets, atom_counts)
    atoms[to_atoms] = store.atoms[expanded(store.atom_starts[ids], atom_counts)]
    graph_of_atom[to_atoms] = np.repeat(place, atom_counts)

    bonds = np.repeat(num_atoms.astype(np.int32), bond_slots * 2).reshape(-1, 2)
    bond_features = np.zeros((num_packs * bond_slots, len(BOND_CATEGORIES)), dtype=np.uint8)
    to_bonds = expanded(pack_of_graph * bond_slots + bond_offsets, bond_counts)
    from_bonds = expanded(store.bond_starts[ids], bond_counts)
    bonds[to_bonds] = store.bonds[from_bonds] + np.repeat(atom_offsets, bond_counts)[:, None]
    bond_features[to_bonds] = store.bond_features[from_bonds]

    slots = pack_of_graph * graph_slots + place
    targets = np.full((num_packs * graph_slots, store.labels.shape[1]), MISSING, dtype=np.int8)
    targets[slots] = store.labels[ids]
    weights = np.zeros(num_packs * graph_slots, dtype=np.float32)
    weights[slots] = 1.0
    return Packs(
        atoms=atoms.reshape(num_packs, atom_slots, -1),
        bonds=bonds.reshape(num_packs, bond_slots, 2),
        bond_features=bond_features.reshape(num_packs, bond_slots, -1),
        graph_of_atom=graph_of_atom.reshape(num_packs, atom_slots),
        targets=targets,
        weights=weights,
        slots=slots,
    )


def _offsets(counts: IntArray, pack_of_graph: IntArray, num_packs: int) -> tuple[IntArray, IntArray]:
    """Return where each graph's items begin within its pack, and how many items each pack has."""
    in_packs = np.bincount(pack_of_graph, weights=counts, minlength=num_packs).astype(np.int64)
    before_pack = np.cumsum(in_packs) - in_packs
    return np.cumsum(counts) - counts - before_pack[pack_of_graph], in_packs
