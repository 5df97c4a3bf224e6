"""Prepared molecules: flat arrays of atoms, bonds and labels, mapped into memory and never loaded whole."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Molecules:
    """The stored arrays of G graphs with A atoms and B bonds in all, one ``.npy`` file each."""

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
    train: NDArray[np.int64]
    """Graph numbers of the split, in stored order."""
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


ARRAY_NAMES = tuple(field.name for field in fields(Molecules))


def array_path(folder: Path, name: str) -> Path:
    """Return where an array is."""
    return folder / f"{name}.npy"


class MoleculeStore:
    """Graphs by number.

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
    def read(cls, folder: Path) -> MoleculeStore:
        """Map a prepared folder, which has one ``.npy`` file for each field of :class:`Molecules`."""
        return cls(Molecules(**{name: np.load(array_path(folder, name), mmap_mode="r") for name in ARRAY_NAMES}))

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

    def split(self, name: str) -> NDArray[np.int64]:
        """Return the graph numbers of ``train``, ``validation`` or ``test``, in stored order."""
        assert name in SPLITS, name
        return np.asarray(getattr(self._mapped, name), dtype=np.int64)
