"""Writing small data sets as the public archive, so that one reader serves both scales."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perfbench.workloads.ogbg import raw


@dataclass(frozen=True, slots=True)
class Molecule:
    """One graph in the public columns."""

    atoms: Sequence[tuple[int, ...]]
    """9 category numbers each."""
    bonds: Sequence[tuple[int, int]]
    """Each bond once."""
    bond_features: Sequence[tuple[int, ...]]
    """3 category numbers each."""


def write_archive(
    folder: Path, molecules: Sequence[Molecule], labels: NDArray[np.int8], splits: Mapping[str, Iterable[int]]
) -> None:
    """Write all files of an archive.

    Args:
        folder: Where.
        molecules: The graphs.
        labels: Shape ``[graphs, tasks]``: 0, 1, or -1, which becomes an empty field.
        splits: Graph numbers of ``train``, ``validation`` and ``test``.
    """
    raw.write_rows(folder / raw.ATOM_COUNTS, ([len(molecule.atoms)] for molecule in molecules))
    raw.write_rows(folder / raw.BOND_COUNTS, ([len(molecule.bonds)] for molecule in molecules))
    raw.write_rows(folder / raw.ATOMS, (row for molecule in molecules for row in molecule.atoms))
    raw.write_rows(folder / raw.BONDS, (row for molecule in molecules for row in molecule.bonds))
    raw.write_rows(folder / raw.BOND_FEATURES, (row for molecule in molecules for row in molecule.bond_features))
    raw.write_rows(folder / raw.LABELS, ([None if x < 0 else x for x in row] for row in labels.tolist()))
    for split, name in raw.SPLIT_FILES.items():
        raw.write_rows(folder / name, ([graph] for graph in splits[split]))
