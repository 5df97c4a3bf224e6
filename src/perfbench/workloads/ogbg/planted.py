"""Invented molecules with known rules: whether a pattern of bonds is there, and how often.

Random ring systems grow random side chains; a task is a rule about typed bonds and paths of two bonds, which a bag of
atoms cannot see. Everything follows from one seed: the deterministic data of the tests, and ``data=planted``.
Source: AlgoPerf ``ogbg`` specification, section 10.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perfbench.data.preparation import Generated, Progress
from perfbench.workloads.ogbg.archive import Molecule, write_archive

NAME = "planted"
REQUIRED_BYTES = 10_000_000
_SEED = 0
_SIZES = {"train": 4_000, "validation": 1_000, "test": 1_000}
_NUM_TASKS = 32
_NUM_CORES = 60
_NUM_TRAIN_CORES = 22
_POPULARITY_EXPONENT = -0.7
_AROMATIC_SHARE = 0.6
_MIN_SUBSTITUENTS, _MAX_SUBSTITUENTS = 2, 7
_DOUBLE_SHARE = 0.3
_MISSING_SHARE = 0.4
_FLIPPED_SHARE = 0.005
_PATTERN_SHARE = (0.03, 0.60)
_POSITIVE_SHARE = (0.03, 0.30)
_MAX_DRAWS = 20_000

_ELEMENTS = {"C": (5, 4), "N": (6, 3), "O": (7, 2), "F": (8, 1)}
"""Code of the atomic number, and valence."""
_RING_ELEMENTS, _RING_RATES = ("C", "N", "O"), (0.5, 0.3, 0.2)
_CHAIN_ELEMENTS, _CHAIN_RATES = ("C", "N", "O", "F"), (0.40, 0.22, 0.26, 0.12)
_SINGLE, _DOUBLE, _AROMATIC = 0, 1, 3
_ORDER = {_SINGLE: 1.0, _DOUBLE: 2.0, _AROMATIC: 1.5}
_SP2, _SP3 = 1, 2
_NEUTRAL = 5

Random = np.random.Generator
Pattern = tuple[object, ...]


@dataclass(slots=True)
class Skeleton:
    """A growing molecule."""

    elements: list[str] = field(default_factory=list)
    in_ring: list[bool] = field(default_factory=list)
    is_aromatic: list[bool] = field(default_factory=list)
    bonds: list[tuple[int, int, int]] = field(default_factory=list)
    """Both ends and the type."""

    def add_atom(self, element: str, *, in_ring: bool = False, is_aromatic: bool = False) -> int:
        """Add an atom and return its number."""
        self.elements.append(element)
        self.in_ring.append(in_ring)
        self.is_aromatic.append(is_aromatic)
        return len(self.elements) - 1

    def free_valences(self) -> list[int]:
        """Return how many hydrogens each atom has left."""
        used = [0.0] * len(self.elements)
        for first, second, kind in self.bonds:
            used[first] += _ORDER[kind]
            used[second] += _ORDER[kind]
        return [max(0, int(_ELEMENTS[element][1] - taken)) for element, taken in zip(self.elements, used, strict=True)]

    def copy(self) -> Skeleton:
        """Return an independent copy."""
        return Skeleton(list(self.elements), list(self.in_ring), list(self.is_aromatic), list(self.bonds))

    def atom_types(self) -> list[str]:
        """Return the element of each atom; aromatic ones are types of their own."""
        return [e.lower() if aromatic else e for e, aromatic in zip(self.elements, self.is_aromatic, strict=True)]


def write_raw(folder: Path, progress: Progress) -> Generated:
    """Write the planted molecules as an archive."""
    return write_graphs(folder, progress, seed=_SEED, sizes=_SIZES, num_tasks=_NUM_TASKS)


def write_graphs(folder: Path, progress: Progress, *, seed: int, sizes: dict[str, int], num_tasks: int) -> Generated:
    """Write any number of planted molecules and tasks."""
    random = np.random.Generator(np.random.PCG64(seed))
    progress("planting", 0, 2)
    cores = [_drawn_core(random) for _ in range(_NUM_CORES)]
    skeletons: list[Skeleton] = []
    splits: dict[str, range] = {}
    for split, core_numbers in _cores_of_splits(random).items():
        splits[split] = range(len(skeletons), len(skeletons) + sizes[split])
        rates = (1.0 + core_numbers) ** _POPULARITY_EXPONENT
        chosen = random.choice(core_numbers, size=sizes[split], p=rates / rates.sum())
        skeletons += [_grown(random, cores[number]) for number in chosen]
    progress("planting", 1, 2)
    counts = [_pattern_counts(skeleton) for skeleton in skeletons]
    truth = _drawn_tasks(random, counts, list(splits.values()), num_tasks)
    labels = np.where(random.random(truth.shape) < _FLIPPED_SHARE, ~truth, truth).astype(np.int8)
    labels[random.random(truth.shape) < _MISSING_SHARE] = -1
    write_archive(folder, [_described(skeleton) for skeleton in skeletons], labels, splits)
    progress("planting", 2, 2)
    return Generated(
        origin={"generator": NAME, "seed": seed, "graphs": len(skeletons)},
        facts={"positive_rate": float(truth.mean()), "flipped_share": _FLIPPED_SHARE},
    )


def _cores_of_splits(random: Random) -> dict[str, NDArray[np.int64]]:
    """Give the most popular cores to training and deal the others to validation and test."""
    others = random.permutation(np.arange(_NUM_TRAIN_CORES, _NUM_CORES))
    middle = len(others) // 2
    return {
        "train": np.arange(_NUM_TRAIN_CORES),
        "validation": np.sort(others[:middle]),
        "test": np.sort(others[middle:]),
    }


def _drawn_core(random: Random) -> Skeleton:
    core = Skeleton()
    first = _add_ring(random, core)
    if random.random() < 0.5:  # noqa: PLR2004 - one ring or two
        second = _add_ring(random, core)
        free = core.free_valences()
        ends = [[atom for atom in ring if free[atom]] for ring in (first, second)]
        if not all(ends):
            return _drawn_core(random)
        core.bonds.append((int(random.choice(ends[0])), int(random.choice(ends[1])), _SINGLE))
    return core if any(core.free_valences()) else _drawn_core(random)


def _add_ring(random: Random, core: Skeleton) -> list[int]:
    is_aromatic = bool(random.random() < _AROMATIC_SHARE)
    elements = random.choice(_RING_ELEMENTS, size=random.integers(5, 7), p=_RING_RATES)
    atoms = [core.add_atom(str(element), in_ring=True, is_aromatic=is_aromatic) for element in elements]
    kind = _AROMATIC if is_aromatic else _SINGLE
    core.bonds += [(atom, following, kind) for atom, following in zip(atoms, atoms[1:] + atoms[:1], strict=True)]
    return atoms


def _grown(random: Random, core: Skeleton) -> Skeleton:
    """Attach atoms, one by one, where a valence is free."""
    grown = core.copy()
    for _ in range(random.integers(_MIN_SUBSTITUENTS, _MAX_SUBSTITUENTS + 1)):
        free = grown.free_valences()
        places = [atom for atom, valence in enumerate(free) if valence]
        if not places:
            break
        place = int(random.choice(places))
        element = str(random.choice(_CHAIN_ELEMENTS, p=_CHAIN_RATES))
        allows_double = free[place] > 1 and _ELEMENTS[element][1] > 1 and not grown.is_aromatic[place]
        kind = _DOUBLE if allows_double and random.random() < _DOUBLE_SHARE else _SINGLE
        grown.bonds.append((place, grown.add_atom(element), kind))
    return grown


def _pattern_counts(skeleton: Skeleton) -> Counter[Pattern]:
    """Count typed bonds and typed paths of two bonds, without direction."""
    types = skeleton.atom_types()
    around: list[list[tuple[int, str]]] = [[] for _ in types]
    counts: Counter[Pattern] = Counter()
    for first, second, kind in skeleton.bonds:
        around[first].append((kind, types[second]))
        around[second].append((kind, types[first]))
        counts[kind, *sorted((types[first], types[second]))] += 1
    for centre, arms in zip(types, around, strict=True):
        for number, arm in enumerate(arms):
            for other in arms[:number]:
                counts[centre, *sorted((arm, other))] += 1
    return counts


def _drawn_tasks(
    random: Random, counts: list[Counter[Pattern]], splits: list[range], num_tasks: int
) -> NDArray[np.bool_]:
    """Return the answers to so many rules, each with both answers in every split: ``[graphs, tasks]``."""
    shares = Counter(pattern for count in counts for pattern in count)
    low, high = (share * len(counts) for share in _PATTERN_SHARE)
    candidates = sorted((pattern for pattern, number in shares.items() if low <= number <= high), key=repr)
    table = {pattern: np.asarray([count[pattern] for count in counts]) for pattern in candidates}
    tasks: list[NDArray[np.bool_]] = []
    for _ in range(_MAX_DRAWS):
        first, second = (table[candidates[number]] for number in random.choice(len(candidates), size=2, replace=False))
        answers = _RULES[random.integers(len(_RULES))](first, second)
        rates = [answers[split.start : split.stop].mean() for split in splits]
        if all(_POSITIVE_SHARE[0] <= rate <= _POSITIVE_SHARE[1] for rate in rates):
            tasks.append(answers)
        if len(tasks) == num_tasks:
            return np.stack(tasks, axis=1)
    raise AssertionError(f"only {len(tasks)} of {num_tasks} tasks found: too few graphs")


_Rule = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
_RULES: tuple[_Rule, ...] = (
    lambda first, _: first >= 1,
    lambda first, _: first >= 2,  # noqa: PLR2004 - more than once
    lambda first, second: (first >= 1) & (second >= 1),
    lambda first, second: (first >= 1) & (second == 0),
)


def _described(skeleton: Skeleton) -> Molecule:
    """Return the public columns, with hydrogens filled in."""
    free = skeleton.free_valences()
    num_neighbours = [0] * len(free)
    is_sp2 = list(skeleton.is_aromatic)
    for first, second, kind in skeleton.bonds:
        for atom in (first, second):
            num_neighbours[atom] += 1
            is_sp2[atom] = is_sp2[atom] or kind == _DOUBLE
    atoms = [
        (
            _ELEMENTS[element][0],
            0,
            num_neighbours[atom] + free[atom],
            _NEUTRAL,
            free[atom],
            0,
            _SP2 if is_sp2[atom] else _SP3,
            int(skeleton.is_aromatic[atom]),
            int(skeleton.in_ring[atom]),
        )
        for atom, element in enumerate(skeleton.elements)
    ]
    bonds = [(first, second) for first, second, _ in skeleton.bonds]
    features = [(kind, 0, int(kind == _AROMATIC)) for *_, kind in skeleton.bonds]
    return Molecule(atoms, bonds, features)
