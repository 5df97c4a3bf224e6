"""Prepared molecules: flat arrays of atoms, bonds and labels, mapped into memory and never loaded whole.

Each split has a folder of its own, so that a confined trainer can be given the training split alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 2
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Molecules:
    """The arrays of the G graphs of a split, in its order, with A atoms and B bonds in all; one ``.npy`` file each."""

    atoms: NDArray[np.uint8]
    """Shape ``[A, 9]``."""
    bonds: NDArray[np.uint16]
    """Shape ``[B, 2]``: each bond once; atom numbers within the graph."""
    bond_features: NDArray[np.uint8]
    """Shape ``[B, 3]``."""
    atom_starts: NDArray[np.int64]
    """Shape ``[G + 1]``."""
    bond_starts: NDArray[np.int64]
    """Shape ``[G + 1]``."""
    labels: NDArray[np.int8]
    """Shape ``[G, T]``: 0, 1, or -1 where missing."""
    numbers: NDArray[np.int64]
    """Shape ``[G]``: which of the data set's graphs each is."""

    def chosen(self, places: NDArray[np.int64]) -> Molecules:
        """Return a copy of the graphs at these places, in this order."""
        atom_counts, bond_counts = np.diff(self.atom_starts)[places], np.diff(self.bond_starts)[places]
        of_bonds = expanded(self.bond_starts[places], bond_counts)
        return Molecules(
            atoms=self.atoms[expanded(self.atom_starts[places], atom_counts)],
            bonds=self.bonds[of_bonds],
            bond_features=self.bond_features[of_bonds],
            atom_starts=starts_of(atom_counts),
            bond_starts=starts_of(bond_counts),
            labels=self.labels[places],
            numbers=self.numbers[places],
        )


ARRAY_NAMES = tuple(field.name for field in fields(Molecules))


def array_path(folder: Path, name: str) -> Path:
    """Return where an array of a split's folder is."""
    return folder / f"{name}.npy"


def starts_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of the graphs begins, and where the last one ends."""
    return np.concatenate(([0], np.cumsum(counts)))


def expanded(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``start, start + 1, ...`` for each start, ``count`` numbers each."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - counts), counts) + np.arange(total)


class MoleculeStore:
    """The graphs of a split, by their place in it.

    Args:
        molecules: Their arrays, in memory or mapped.
    """

    def __init__(self, molecules: Molecules) -> None:
        self._mapped = molecules
        # The small arrays are wanted whole, by every batch.
        self.atom_starts: NDArray[np.int64] = np.asarray(self._mapped.atom_starts)
        self.bond_starts: NDArray[np.int64] = np.asarray(self._mapped.bond_starts)
        self.atom_counts: NDArray[np.int64] = np.diff(self.atom_starts)
        self.bond_counts: NDArray[np.int64] = np.diff(self.bond_starts)

    @classmethod
    def read(cls, folder: Path, split: str) -> MoleculeStore:
        """Map a split of a prepared folder: ``train``, ``validation`` or ``test``."""
        assert split in SPLITS, split
        arrays = {name: np.load(array_path(folder / split, name), mmap_mode="r") for name in ARRAY_NAMES}
        return cls(Molecules(**arrays))

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self.atom_counts)

    @property
    def atoms(self) -> NDArray[np.uint8]:
        """Atom columns ``[A, 9]``."""
        return self._mapped.atoms

    @property
    def bonds(self) -> NDArray[np.uint16]:
        """Ends of bonds ``[B, 2]``."""
        return self._mapped.bonds

    @property
    def bond_features(self) -> NDArray[np.uint8]:
        """Bond columns ``[B, 3]``."""
        return self._mapped.bond_features

    @property
    def labels(self) -> NDArray[np.int8]:
        """Labels ``[G, T]``, -1 where missing."""
        return self._mapped.labels

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers ``[G]`` within the data set."""
        return self._mapped.numbers
