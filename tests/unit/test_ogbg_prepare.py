"""From the public text files to arrays, and every way in which a file can be damaged; real molecules in OGB columns."""

from __future__ import annotations

import gzip
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.errors import DataError
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.ogbg import planted, prepare, raw
from perfbench.workloads.ogbg.store import MoleculeStore

SIZES = {"train": 60, "validation": 25, "test": 20}
NUM_TASKS = 3


def spec(**params: object) -> WorkloadSpec:
    base = compose_workload("ogbg", scale="full")
    small = {"num_tasks": NUM_TASKS, "expected_counts": SIZES}
    return base.model_copy(update={"params": base.params | small | params})


def request(source: Path | None, destination: Path, workload: WorkloadSpec | None = None) -> PrepareRequest:
    return PrepareRequest(
        workload=workload or spec(), destination=destination, source=source, progress=lambda *_: None, options={}
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    planted.write_graphs(folder / "pcba", lambda *_: None, seed=1, sizes=SIZES, num_tasks=NUM_TASKS)
    return folder


def lines_of(folder: Path, name: str) -> list[str]:
    return gzip.decompress((folder / "pcba" / name).read_bytes()).decode().splitlines()


def grouped(folder: Path, name: str, counts: list[int]) -> list[list[str]]:
    """Return the lines of each graph."""
    lines = iter(lines_of(folder, name))
    return [list(itertools.islice(lines, count)) for count in counts]


def written(rows: NDArray[np.integer]) -> list[str]:
    return [",".join(map(str, row)) for row in rows.tolist()]


def test_the_arrays_hold_what_the_text_says(archive: Path, tmp_path: Path) -> None:
    manifest = prepare.prepare(request(archive, tmp_path))

    atom_counts, bond_counts = (
        [int(line) for line in lines_of(archive, name)] for name in (raw.ATOM_COUNTS, raw.BOND_COUNTS)
    )
    atoms, features = grouped(archive, raw.ATOMS, atom_counts), grouped(archive, raw.BOND_FEATURES, bond_counts)
    bonds, labels = grouped(archive, raw.BONDS, bond_counts), lines_of(archive, raw.LABELS)
    for split in SIZES:
        store = MoleculeStore.read(tmp_path, split)
        assert store.numbers.tolist() == [int(line) for line in lines_of(archive, raw.SPLIT_FILES[split])]
        for place, number in enumerate(store.numbers):
            of_atoms = slice(*store.atom_starts[place : place + 2])
            of_bonds = slice(*store.bond_starts[place : place + 2])
            assert written(store.atoms[of_atoms]) == atoms[number]
            assert written(store.bonds[of_bonds]) == bonds[number]
            assert written(store.bond_features[of_bonds]) == features[number]
            assert written(store.labels[[place]])[0].replace("-1", "") == labels[number]
    assert {split: manifest.counts[split] for split in SIZES} == SIZES
    assert manifest.counts["atoms"] == sum(atom_counts)
    assert any(",," in line for line in labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "test", "train", "validation"]
    assert prepare.verify(spec(), tmp_path, prepare_command="x") == manifest


def test_blocks_of_text_end_anywhere(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare.prepare(request(archive, tmp_path / "whole"))
    monkeypatch.setattr(raw, "_BLOCK_BYTES", 37)

    assert prepare.prepare(request(archive, tmp_path / "pieces")) == whole


def test_labels_of_a_float_dump_are_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv.gz"
    path.write_bytes(gzip.compress(b"0.0,1.0,nan\n1,,0\n,,\n"))

    assert np.concatenate(list(raw.labels(path, num_tasks=3))).tolist() == [[0, 1, -1], [1, -1, 0], [-1, -1, -1]]


def changed(number: int, text: str | None) -> Callable[[list[str]], list[str]]:
    """Replace a line, or leave it out."""
    return lambda lines: [*lines[:number], *([] if text is None else [text]), *lines[number + 1 :]]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (raw.ATOMS, changed(4, "5,0,3,5,1,0,1,1"), r"node-feat.csv.gz, line 5: 8 fields instead of 9"),
        (raw.ATOMS, changed(4, "5,0,3,5,1,0,1,1,1,1"), r"node-feat.csv.gz, line 5: 10 fields instead of 9"),
        (raw.ATOMS, changed(4, "5,0,3,x,1,0,1,1,1"), r"line 5: not all fields are integers: '5,0,3,x"),
        (raw.ATOMS, changed(4, "5,0,3,,1,0,1,1,1"), r"line 5: not all fields are integers"),
        (raw.ATOMS, changed(4, "119,0,3,5,1,0,1,1,1"), r"line 5: field 1 is 119, which is not from 0 to 118"),
        (raw.ATOMS, changed(4, None), r"node-feat.csv.gz: \d+ lines instead of \d+: what the counts"),
        (raw.BOND_FEATURES, changed(0, "5,0,0"), r"edge-feat.csv.gz, line 1: field 1 is 5, which is not from 0 to 4"),
        (raw.BONDS, changed(0, "0,40"), r"edge.csv.gz, line 1: joins atoms 0 and 40, but graph 0 has \d+ atoms"),
        (raw.BONDS, changed(0, "-1,0"), r"edge.csv.gz, line 1: (not all fields are integers|field 1 is -1)"),
        (raw.BOND_COUNTS, changed(3, None), r"num-edge-list.csv.gz: 104 lines instead of 105: one line for each graph"),
        (raw.ATOM_COUNTS, changed(2, "0"), r"num-node-list.csv.gz, line 3: a graph without atoms"),
        (raw.LABELS, changed(9, "0,2,1"), r"graph-label.csv.gz, line 10: field 2 is no label \(0, 1, or empty .*'2'"),
        (raw.LABELS, changed(9, "0,1"), r"graph-label.csv.gz, line 10: 2 fields instead of 3"),
        (raw.LABELS, changed(9, None), r"graph-label.csv.gz: 104 lines instead of 105"),
        (raw.SPLIT_FILES["test"], changed(0, "3"), r"split: graph 3 is in 2 places of the splits instead of one"),
        (raw.SPLIT_FILES["test"], changed(0, None), r"split: graph \d+ is in 0 places of the splits"),
        (raw.SPLIT_FILES["train"], changed(0, "105"), r"train.csv.gz, line 1: field 1 is 105, .* from 0 to 104"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(
    archive: Path, tmp_path: Path, name: str, change: Callable[[list[str]], list[str]], message: str
) -> None:
    shutil.copytree(archive, tmp_path / "copy")
    path = tmp_path / "copy" / "pcba" / name
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in change(lines_of(archive, name))).encode()))

    with pytest.raises(DataError, match=message):
        prepare.prepare(request(tmp_path / "copy", tmp_path / "out"))

    assert not (tmp_path / "out" / "manifest.json").exists()


def test_bytes_that_are_no_text_are_named_with_their_line(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive, tmp_path / "copy")
    path = tmp_path / "copy" / "pcba" / raw.LABELS
    path.write_bytes(gzip.compress(b"0,1,\n0,\xff,1\n"))

    with pytest.raises(DataError, match=r"graph-label.csv.gz, line 2: field 2 is no label .*: '\ufffd'"):
        prepare.prepare(request(tmp_path / "copy", tmp_path / "out"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"edge.csv.gz: missing file\n  hint: give --source DIR"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), r"edge.csv.gz: cannot be unpacked"),
        (lambda path: path.write_bytes(gzip.compress(b"")), r"edge.csv.gz: the file is empty"),
        (
            lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1])),
            r"edge.csv.gz: the last line has no end",
        ),
    ],
)
def test_a_truncated_archive_is_named(
    archive: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    shutil.copytree(archive, tmp_path / "copy")
    damage(tmp_path / "copy" / "pcba" / raw.BONDS)

    with pytest.raises(DataError, match=message):
        prepare.prepare(request(tmp_path / "copy", tmp_path / "out"))


def test_a_graph_that_fits_into_no_pack_is_an_error(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a graph of \d+ atoms and \d+ bonds does not fit into a pack for 8 atoms and"):
        prepare.prepare(request(archive, tmp_path, spec(num_packs=64, atoms_per_graph=1)))


def test_the_full_data_set_needs_a_source_that_exists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ogbg_molpcba: needs the public files\n  hint: fetch and unpack .*pcba.zip"):
        prepare.prepare(request(None, tmp_path))
    with pytest.raises(DataError, match=r"nowhere: the source folder does not exist"):
        prepare.prepare(request(tmp_path / "nowhere", tmp_path))


def test_verify_names_counts_that_are_not_the_workload_s(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the data is not prepared\n  hint: run `the command`"):
        prepare.verify(spec(), tmp_path, prepare_command="the command")
    prepare.prepare(request(archive, tmp_path))

    full = compose_workload("ogbg", scale="full")
    with pytest.raises(DataError, match=r"60 train, the workload needs 350343"):
        prepare.verify(full, tmp_path, prepare_command="the command")
    with pytest.raises(DataError, match=r"3 tasks, the workload needs 4"):
        prepare.verify(spec(num_tasks=4), tmp_path, prepare_command="the command")
    atoms = tmp_path / "validation" / "atoms.npy"
    atoms.write_bytes(atoms.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"validation/atoms.npy: truncated data file"):
        prepare.verify(spec(), tmp_path, prepare_command="the command")


def test_a_real_molecule_has_the_public_columns() -> None:
    pytest.importorskip("rdkit")
    from rdkit import Chem

    from perfbench.workloads.ogbg.molecules import described

    molecule = described(Chem.MolFromSmiles("Cl[C@H](/C=C/C)Br"))

    assert (5, 2, 4, 5, 1, 0, 2, 0, 0) in molecule.atoms
    assert molecule.atoms[0][0] == 16
    assert molecule.atoms[-1][0] == 34
    assert (1, 2, 0) in molecule.bond_features
    assert len(molecule.bonds) == len(molecule.bond_features) == 5


def test_rdkit_is_imported_only_when_its_molecules_are_made() -> None:
    code = (
        "import perfbench.workloads.ogbg.prepare, perfbench.workloads.ogbg.workload, sys;"
        "assert not [m for m in sys.modules if m.startswith('rdkit')]"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_package_is_named_with_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from perfbench.workloads.ogbg import molecules

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(
        DataError,
        match=r"the package 'qc-b3db' is not installed.*\n  hint: .*pip install --no-deps qc-b3db==1.1.1, or use d",
    ):
        molecules.write_raw(tmp_path, lambda *_: None)
