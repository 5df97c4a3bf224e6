"""From the public text files to flat arrays: streaming, checked row by row and as a whole; the manifest comes last.

The text files hold the graphs of all splits; whole arrays of them are written aside and then parted.

The source is the unpacked archive ``pcba.zip`` of the Open Graph Benchmark (or the folder that holds its ``pcba``).
Preparing takes a minute at full scale, so an interrupted call starts again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from pydantic import JsonValue

from perfbench.data.preparation import (
    Generator,
    Manifest,
    PrepareRequest,
    Progress,
    entry_for,
    passing_folder,
    require_source_folder,
    small_data,
)
from perfbench.data.source_files import is_there, size_of
from perfbench.errors import DataError
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.ogbg import molecules, planted, raw
from perfbench.workloads.ogbg.packing import Budget
from perfbench.workloads.ogbg.params import ATOM_CATEGORIES, BOND_CATEGORIES, Params
from perfbench.workloads.ogbg.store import ARRAY_NAMES, FORMAT_VERSION, SPLITS, Molecules, array_path, starts_of

_MAX_ATOMS = 1 << 16
"""Of one graph: atom numbers within a graph are stored in 16 bits."""
_MAX_BONDS = 1 << 31
_BYTES_PER_PACKED_BYTE = 24
"""At most so much larger are the arrays than the compressed text (about 7 for the public files), there twice."""
_GENERATORS: dict[str, Generator] = {molecules.NAME: molecules, planted.NAME: planted}

IntArray = NDArray[np.int64]


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk the arrays (and generated text files) need at most."""
    if request.source is None:
        return _generator(request.workload).REQUIRED_BYTES
    source = _archive_folder(request.source)
    return _BYTES_PER_PACKED_BYTE * sum(size_of(source / name) for name in raw.FILES if is_there(source / name))


def prepare(request: PrepareRequest) -> Manifest:
    """Convert the source (or generate a small one first) into ``request.destination``.

    Raises:
        DataError: If a file is missing, truncated or malformed (names file and line), files do not fit one another,
            or a graph does not fit into a pack.
    """
    params = Params.from_mapping(request.workload.params, where="workload.params")
    if request.source is not None:
        origin: dict[str, JsonValue] = {"source": "public ogbg-molpcba archive"}
        return _convert(request, params, _archive_folder(request.source), origin=origin, facts={})
    generator = _generator(request.workload)
    with passing_folder(request.destination / "raw_text") as text:
        generated = generator.write_raw(text, request.progress)
        return _convert(request, params, text, origin=generated.origin, facts=generated.facts)


def verify(workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what ``workload`` needs; reads only the manifest and file sizes.

    Raises:
        DataError: If files are missing or truncated, counts are not the workload's, or a graph does not fit.
    """
    manifest = Manifest.read_checked(folder, format_version=FORMAT_VERSION, prepare_command=prepare_command)
    params = Params.from_mapping(workload.params, where="workload.params")
    expected: dict[str, int] = {**dict(params.expected_counts.items()), "tasks": params.num_tasks}
    for name, count in expected.items():
        if manifest.counts.get(name) != count:
            raise DataError(
                f"{manifest.counts.get(name)} {name}, the workload needs {count}",
                where=str(folder / "manifest.json"),
                hint=f"delete the folder and run `{prepare_command}` on the complete data",
            )
    _require_room(workload, params, manifest.counts, where=str(folder))
    return manifest


def _archive_folder(source: Path) -> Path:
    require_source_folder(source)
    inner = source / "pcba"
    return inner if inner.is_dir() else source


def _generator(workload: WorkloadSpec) -> Generator:
    return small_data(
        _GENERATORS,
        workload,
        hint="fetch and unpack csv_mol_download/pcba.zip of the Open Graph Benchmark, and give --source DIR",
    )


def _convert(
    request: PrepareRequest, params: Params, source: Path, *, origin: dict[str, JsonValue], facts: dict[str, JsonValue]
) -> Manifest:
    destination, progress = request.destination, request.progress
    destination.mkdir(parents=True, exist_ok=True)
    with passing_folder(destination / "whole") as whole:
        conversion = _Conversion(source, whole, progress)
        molecules = conversion.converted(params.num_tasks)
        ids = conversion.splits(len(molecules.numbers))
        counts = _counts_of(molecules) | {split: len(of_split) for split, of_split in ids.items()}
        _require_room(request.workload, params, counts, where=str(source))
        for split, of_split in ids.items():
            _write_split(destination / split, molecules.chosen(of_split))
    paths = [array_path(Path(split), name) for split in SPLITS for name in ARRAY_NAMES]
    manifest = Manifest(
        family=request.workload.family,
        dataset=request.workload.dataset,
        format_version=FORMAT_VERSION,
        origin=origin,
        counts=counts,
        facts=facts,
        files={str(path): entry_for(destination / path) for path in paths},
    )
    manifest.write(destination)
    return manifest


def _counts_of(molecules: Molecules) -> dict[str, int]:
    return {
        "graphs": len(molecules.numbers),
        "atoms": len(molecules.atoms),
        "bonds": len(molecules.bonds),
        "tasks": molecules.labels.shape[1],
        "most_atoms": int(np.diff(molecules.atom_starts).max()),
        "most_bonds": int(np.diff(molecules.bond_starts).max()),
    }


def _write_split(folder: Path, molecules: Molecules) -> None:
    folder.mkdir(exist_ok=True)
    for name in ARRAY_NAMES:
        np.save(array_path(folder, name), getattr(molecules, name))


class _Conversion:
    """Reads the files of one archive into arrays of all graphs.

    Args:
        source: The unpacked archive.
        folder: Where the large arrays are mapped.
        progress: Told after each file.
    """

    def __init__(self, source: Path, folder: Path, progress: Progress) -> None:
        self._source = source
        self._folder = folder
        self._progress = progress
        self._num_files_read = 0

    def converted(self, num_tasks: int) -> Molecules:
        """Return all graphs, in the order of the files."""
        atom_counts = self._column(raw.ATOM_COUNTS, _MAX_ATOMS)
        bond_counts = self._column(raw.BOND_COUNTS, _MAX_BONDS)
        self._require_equal(len(bond_counts), len(atom_counts), raw.BOND_COUNTS, "one line for each graph")
        self._require_atoms(atom_counts)
        num_graphs, num_atoms, num_bonds = len(atom_counts), int(atom_counts.sum()), int(bond_counts.sum())
        atoms = self._mapped(raw.ATOMS, (num_atoms, len(ATOM_CATEGORIES)), limits=ATOM_CATEGORIES)
        features = self._mapped(raw.BOND_FEATURES, (num_bonds, len(BOND_CATEGORIES)), limits=BOND_CATEGORIES)
        bonds = self._mapped(raw.BONDS, (num_bonds, 2), limits=(_MAX_ATOMS, _MAX_ATOMS))
        bond_starts = starts_of(bond_counts)
        self._require_ends(bonds, atom_counts, bond_starts)
        return Molecules(
            atoms=atoms,
            bonds=bonds,
            bond_features=features,
            atom_starts=starts_of(atom_counts),
            bond_starts=bond_starts,
            labels=self._mapped(raw.LABELS, (num_graphs, num_tasks), limits=None),
            numbers=np.arange(num_graphs),
        )

    def splits(self, num_graphs: int) -> dict[str, IntArray]:
        """Return which graphs each split has, in its order."""
        ids = {split: self._column(raw.SPLIT_FILES[split], num_graphs) for split in SPLITS}
        times_used = np.bincount(np.concatenate(list(ids.values())), minlength=num_graphs)
        wrong = np.flatnonzero(times_used != 1)
        if len(wrong):
            raise DataError(
                f"graph {wrong[0]} is in {times_used[wrong[0]]} places of the splits instead of one",
                where=str(self._source / "split"),
                hint="fetch the archive again",
            )
        return ids

    def _column(self, name: str, limit: int) -> IntArray:
        blocks = [block[:, 0] for block in raw.integers(self._source / name, limits=(limit,))]
        self._file_read()
        return np.concatenate(blocks)

    def _mapped(self, file_name: str, shape: tuple[int, int], *, limits: tuple[int, ...] | None) -> NDArray[Any]:
        """Return a file's rows as an array of a known shape on the disk; without limits they are labels."""
        path = self._source / file_name
        blocks: Iterable[NDArray[np.integer]]
        if limits is None:
            blocks, dtype = raw.labels(path, num_tasks=shape[1]), "i1"
        else:
            blocks = raw.integers(path, limits=limits)
            dtype = "u1" if max(limits) <= np.iinfo(np.uint8).max else "<u2"
        array = open_memmap(self._folder / f"{Path(file_name).name}.npy", mode="w+", dtype=dtype, shape=shape)
        filled = 0
        for rows in blocks:
            room = array[filled : filled + len(rows)]
            room[:] = rows[: len(room)]
            filled += len(rows)
        self._require_equal(filled, shape[0], file_name, "what the counts of atoms, bonds and graphs say")
        self._file_read()
        return array

    def _file_read(self) -> None:
        self._num_files_read += 1
        self._progress("converting", self._num_files_read, len(raw.FILES))

    def _require_equal(self, found: int, expected: int, file_name: str, meaning: str) -> None:
        if found != expected:
            raise DataError(
                f"{found} lines instead of {expected}: {meaning}",
                where=str(self._source / file_name),
                hint="the files do not belong together, or one is truncated: fetch the archive again",
            )

    def _require_atoms(self, atom_counts: IntArray) -> None:
        empty = np.flatnonzero(atom_counts == 0)
        if len(empty):
            raise DataError(
                "a graph without atoms",
                where=f"{self._source / raw.ATOM_COUNTS}, line {empty[0] + 1}",
                hint="fetch the archive again",
            )

    def _require_ends(self, bonds: NDArray[np.integer], atom_counts: IntArray, bond_starts: IntArray) -> None:
        """Check that every bond joins two atoms of its own graph."""
        limits = np.repeat(atom_counts, np.diff(bond_starts))
        wrong = np.flatnonzero((bonds >= limits[:, None]).any(axis=1))
        if len(wrong):
            row = int(wrong[0])
            graph = int(np.searchsorted(bond_starts, row, side="right")) - 1
            raise DataError(
                f"joins atoms {bonds[row, 0]} and {bonds[row, 1]}, but graph {graph} has {atom_counts[graph]} atoms",
                where=f"{self._source / raw.BONDS}, line {row + 1}",
                hint="the files do not belong together: fetch the archive again",
            )


def _require_room(workload: WorkloadSpec, params: Params, counts: dict[str, int], *, where: str) -> None:
    """Check that the largest graph fits into the packs of training and evaluation."""
    for batch_size in (workload.reference_batch_size, workload.eval_batch_size):
        budget = Budget.of_batch(params, batch_size)
        budget.require_room(atoms=counts["most_atoms"], bonds=counts["most_bonds"], where=where)
