"""Real molecules: blood-brain barrier labels of ``qc-b3db`` (CC0), and structures that come with ``rdkit`` (BSD).

Task 0 is measured: does the molecule pass the blood-brain barrier? The other tasks are computed from the structure: has
it this functional group? (rdkit's fragment patterns.) A fixed random part of the computed labels is removed, and
task 0 is missing for the molecules of rdkit's NCI sample, so that labels are missing as in the public data.

rdkit is imported only here, and only when this data set is made.
"""

from __future__ import annotations

import csv
import importlib.metadata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfbench.data.packages import PackagedFiles
from perfbench.data.preparation import Generated, Progress
from perfbench.workloads.ogbg.archive import Molecule, write_archive
from perfbench.workloads.ogbg.params import ATOM_CATEGORIES, BOND_CATEGORIES

NAME = "molecules"
REQUIRED_BYTES = 20_000_000
_LABEL_FILE = "B3DB_classification.tsv"
_STRUCTURE_FILE = "NCI/first_5K.smi"
_PATTERN_FILE = "FragmentDescriptors.csv"
BARRIER = PackagedFiles(
    name="qc-b3db",
    version="1.1.1",
    module="B3DB",
    folder="",
    sha256={_LABEL_FILE: "47a160aea1551423ead2aab70b301fb1646aea03cf151fd614eb37c78fa55b82"},
    instead="planted",
)
RDKIT = PackagedFiles(
    name="rdkit",
    version="2026.9.1",
    module="rdkit",
    folder="Data",
    sha256={
        _STRUCTURE_FILE: "91e71c015f14939837f2943dcc904f7c87e5a3a0124d82b05c28ad2f23004def",
        _PATTERN_FILE: "ff574a431cb1dd4aeb816b96f72d4601f014cc592a4db4935cde3b061f823584",
    },
    instead="planted",
)
_REMOVAL_SEED = 20210504
_REMOVED_SHARE = 0.3
_MIN_RATE, _MAX_RATE = 0.02, 0.9
"""A pattern is a task if this share of the molecules has it."""
_TRAIN_SHARE, _VALIDATION_SHARE = 0.8, 0.1

_CHIRALITIES = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
_HYBRIDISATIONS = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
_BOND_TYPES = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
_STEREOS = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY")
_NEUTRAL = 5
"""Code of formal charge 0."""

Structure = Any
"""An rdkit molecule: its classes come from C++ and have no types."""


def write_raw(folder: Path, progress: Progress) -> Generated:
    """Write the molecules as an archive.

    Raises:
        DataError: If one of the two packages is not installed, or a file of it is another one.
    """
    label_file, rdkit_data = BARRIER.checked(dataset=NAME) / _LABEL_FILE, RDKIT.checked(dataset=NAME)
    from rdkit import rdBase

    with rdBase.BlockLogs():  # rdkit tells about every structure that it cannot read
        structures, barrier = _structures(label_file, rdkit_data / _STRUCTURE_FILE)
        progress("reading molecules", 1, 4)
        names, has_pattern = _pattern_tasks(structures, rdkit_data / _PATTERN_FILE)
        progress("reading molecules", 2, 4)
        splits = scaffold_split(_scaffolds(structures))
        progress("reading molecules", 3, 4)
        molecules = [described(structure) for structure in structures]
    is_removed = np.random.Generator(np.random.PCG64(_REMOVAL_SEED)).random(has_pattern.shape) < _REMOVED_SHARE
    computed = np.where(is_removed, -1, has_pattern).astype(np.int8)
    write_archive(folder, molecules, np.column_stack([barrier, computed]), splits)
    progress("reading molecules", 4, 4)
    digests = {**BARRIER.sha256, **RDKIT.sha256}
    return Generated(
        origin={
            "packages": {package.name: importlib.metadata.version(package.name) for package in (BARRIER, RDKIT)},
            "sha256": {Path(name).name: digest for name, digest in digests.items()},
            "removal_seed": _REMOVAL_SEED,
        },
        facts={"tasks": ["passes_blood_brain_barrier", *names]},
    )


def described(structure: Structure) -> Molecule:
    """Return a molecule in the public columns (Open Graph Benchmark, ``features.py``)."""
    return Molecule(
        atoms=[_atom_row(atom) for atom in structure.GetAtoms()],
        bonds=[(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in structure.GetBonds()],
        bond_features=[_bond_row(bond) for bond in structure.GetBonds()],
    )


def scaffold_split(scaffolds: list[str]) -> dict[str, list[int]]:
    """Keep molecules of one scaffold together: the most frequent scaffolds train, the rarest test.

    >>> scaffold_split(["a", "b", "a", "c", "a", "a", "a", "a", "a", "a"])
    {'train': [0, 2, 4, 5, 6, 7, 8, 9], 'validation': [1], 'test': [3]}
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, scaffold in enumerate(scaffolds):
        groups[scaffold].append(number)
    splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    train_end = _TRAIN_SHARE * len(scaffolds)
    validation_end = train_end + _VALIDATION_SHARE * len(scaffolds)
    num_dealt = 0
    for group in sorted(groups.values(), key=lambda members: (-len(members), members[0])):
        num_dealt += len(group)
        split = "train" if num_dealt <= train_end else "validation" if num_dealt <= validation_end else "test"
        splits[split] += group
    return {split: sorted(members) for split, members in splits.items()}


def _structures(label_file: Path, structure_file: Path) -> tuple[list[Structure], NDArray[np.int8]]:
    """Return distinct molecules and their measured labels, -1 where missing or contradictory."""
    from rdkit import Chem

    with label_file.open(encoding="utf-8") as file:
        texts = [(row["SMILES"], int(row["BBB+/BBB-"] == "BBB+")) for row in csv.DictReader(file, delimiter="\t")]
    texts += [(line.split()[0], -1) for line in structure_file.read_text().splitlines()]
    structures: dict[str, Structure] = {}
    labels: dict[str, int] = {}
    for text, label in texts:
        structure = Chem.MolFromSmiles(text)
        if structure is None:
            continue
        canonical = Chem.MolToSmiles(structure)
        structures.setdefault(canonical, structure)
        known = labels.setdefault(canonical, label)
        if -1 < label != known:
            labels[canonical] = -1
    return list(structures.values()), np.asarray(list(labels.values()), dtype=np.int8)


def _pattern_tasks(structures: list[Structure], pattern_file: Path) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the names of the patterns that are tasks, and which molecule has which."""
    from rdkit import Chem

    rows = [line.split("\t") for line in pattern_file.read_text().splitlines() if line.startswith("fr_")]
    parsed = {row[0]: Chem.MolFromSmarts(row[2]) for row in rows if len(row) > 2}  # noqa: PLR2004 - name, text, pattern
    patterns = {name: pattern for name, pattern in parsed.items() if pattern is not None}
    found = [[structure.HasSubstructMatch(pattern) for pattern in patterns.values()] for structure in structures]
    has_pattern = np.asarray(found, dtype=bool)
    rates = has_pattern.mean(axis=0)
    is_task = (rates >= _MIN_RATE) & (rates <= _MAX_RATE)
    names = [name for name, used in zip(patterns, is_task, strict=True) if used]
    return names, has_pattern[:, is_task]


def _scaffolds(structures: list[Structure]) -> list[str]:
    """Return the Bemis-Murcko scaffold of each molecule; empty without rings."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    scaffold_of: Callable[..., str] = MurckoScaffold.MurckoScaffoldSmiles
    return [scaffold_of(mol=structure) for structure in structures]


def _atom_row(atom: Any) -> tuple[int, ...]:  # noqa: ANN401 - from C++
    row = (
        atom.GetAtomicNum() - 1,
        _position(str(atom.GetChiralTag()), _CHIRALITIES),
        atom.GetTotalDegree(),
        atom.GetFormalCharge() + _NEUTRAL,
        atom.GetTotalNumHs(),
        atom.GetNumRadicalElectrons(),
        _position(str(atom.GetHybridization()), _HYBRIDISATIONS),
        int(atom.GetIsAromatic()),
        int(atom.IsInRing()),
    )
    # The last category of a column is "another".
    return tuple(value if 0 <= value < size else size - 1 for value, size in zip(row, ATOM_CATEGORIES, strict=True))


def _bond_row(bond: Any) -> tuple[int, ...]:  # noqa: ANN401 - from C++
    row = (
        _position(str(bond.GetBondType()), _BOND_TYPES),
        _position(str(bond.GetStereo()), _STEREOS),
        int(bond.GetIsConjugated()),
    )
    return tuple(min(value, size - 1) for value, size in zip(row, BOND_CATEGORIES, strict=True))


def _position(name: str, known: tuple[str, ...]) -> int:
    return known.index(name) if name in known else len(known)
