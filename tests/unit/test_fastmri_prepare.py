"""From public files to prepared volumes: splits, order, resuming, and every way in which a file can be damaged."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from perfbench.compose import compose_workload
from perfbench.data.preparation import Manifest
from perfbench.errors import ConfigError, DataError
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.fastmri import brain, phantoms, prepare
from perfbench.workloads.fastmri.imaging import hybrid_of
from perfbench.workloads.fastmri.params import Params
from perfbench.workloads.fastmri.phantoms import Layout
from perfbench.workloads.fastmri.raw import read_volume
from perfbench.workloads.fastmri.volumes import SliceReader, VolumeFacts, record_bytes, write_volume
from tests.unit.fastmri_figures import params_of, request_for, workload_of

LAYOUT = Layout(num_train=3, num_validation=2, num_test=1, slices_per_volume=9)
COUNTS = {"train": 27, "validation": 16, "test": 9}
VOLUMES = {"train": 3, "validation": 2, "test": 1}
SMALL = {"image_size": 32, "kspace_rows": 64, "expected_examples": COUNTS, "expected_volumes": VOLUMES}


@pytest.fixture(scope="module")
def workload() -> WorkloadSpec:
    return workload_of("fastmri", "full", **SMALL)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    phantoms.write_volumes(folder, params_of(**SMALL), lambda *_: None, LAYOUT, seed=1)
    return folder


def volumes_of(manifest: Manifest, split: str) -> list[VolumeFacts]:
    volumes = manifest.facts["volumes"]
    assert isinstance(volumes, dict)
    members = volumes[split]
    assert isinstance(members, list)
    return [VolumeFacts.model_validate(member) for member in members]


def test_slices_are_those_of_the_files_in_the_order_of_names(raw: Path, workload: WorkloadSpec, tmp_path: Path) -> None:
    manifest = prepare.prepare(request_for(workload, raw, tmp_path))
    prepare.verify(workload, tmp_path, prepare_command="the command")

    for split, names in (
        ("train", ["file1000001", "file1000002", "file1000003"]),
        ("validation", ["file1000004", "file1000005"]),
        ("test", ["file1000006"]),
    ):
        reader = SliceReader(tmp_path, volumes_of(manifest, split), 32)
        part = "train" if split == "train" else "val"
        number = 0
        for name in names:
            with h5py.File(raw / f"singlecoil_{part}" / f"{name}.h5") as file:
                for kspace, target in zip(file["kspace"][()], file["reconstruction_esc"][()], strict=True):
                    record = reader.read(number)
                    assert np.array_equal(record.hybrid, hybrid_of(kspace, 32))
                    assert np.array_equal(record.target, target)
                    assert reader.volume_of(number).maximum == file.attrs["max"]
                    number += 1
        assert number == reader.num_slices == COUNTS[split]


def test_the_prepared_data_is_half_the_size_of_the_public_files() -> None:
    raw_bytes = 640 * 368 * 8 + 2 * 320 * 320 * 4

    assert record_bytes(320, 368) / raw_bytes == pytest.approx(0.5)
    assert 34_742 * record_bytes(320, 368) / 1e9 == pytest.approx(47, abs=0.5)


def test_the_disk_budget_covers_what_is_written(raw: Path, workload: WorkloadSpec, tmp_path: Path) -> None:
    request = request_for(workload, raw, tmp_path)
    manifest = prepare.prepare(request)

    written = sum(entry.size_bytes for entry in manifest.files.values())
    assert written <= prepare.required_bytes(request) < 1.5 * written


@pytest.mark.parametrize(("prefix", "mode", "suffix"), [("knee_", "w:xz", ".tar.xz"), ("knee_", "w:gz", ".tar.gz")])
def test_archives_are_read_without_unpacking(
    raw: Path, workload: WorkloadSpec, tmp_path: Path, prefix: str, mode: Any, suffix: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for part in ("train", "val"):
        with tarfile.open(source / f"{prefix}singlecoil_{part}{suffix}", mode) as archive:
            for path in sorted((raw / f"singlecoil_{part}").iterdir(), reverse=True):
                archive.add(path, f"singlecoil_{part}/{path.name}")

    packed = prepare.prepare(request_for(workload, source, tmp_path / "a"))
    plain = prepare.prepare(request_for(workload, raw, tmp_path / "b"))

    assert packed == plain


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_an_interrupted_preparation_continues_to_the_same_bytes(
    raw: Path, workload: WorkloadSpec, tmp_path: Path, limit: int
) -> None:
    whole = prepare.prepare(request_for(workload, raw, tmp_path / "whole"))
    written = 0

    class PowerCutError(Exception):
        pass

    def failing(path: Path, records: Any) -> None:
        nonlocal written
        written += 1
        if written > limit:
            raise PowerCutError
        write_volume(path, records)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(prepare, "write_volume", failing)
        prepare.prepare(request_for(workload, raw, tmp_path / "cut"))
    assert not (tmp_path / "cut" / "manifest.json").exists()

    assert prepare.prepare(request_for(workload, raw, tmp_path / "cut")) == whole


def test_a_volume_that_was_written_twice_counts_once(
    raw: Path, workload: WorkloadSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare.prepare(request_for(workload, raw, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        for _ in range(2):
            (tmp_path / "cut" / "train" / "file1000002.bin").unlink(missing_ok=True)
            with pytest.raises(KeyboardInterrupt):
                prepare.prepare(request_for(workload, raw, tmp_path / "cut"))

    assert prepare.prepare(request_for(workload, raw, tmp_path / "cut")) == whole


def changed(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def replaced(name: str, of: Callable[[Any], Any]) -> Callable[[Path], None]:
    def change(file: Any) -> None:
        value = of(file[name][()])
        del file[name]
        file[name] = value

    return changed(change)


def with_a_group(file: Any) -> None:
    del file["kspace"]
    file.create_group("kspace")


def with_nan(values: Any) -> Any:
    values[3, 0, 0] = np.nan
    return values


def blank(values: Any) -> Any:
    values[2] = 0
    return values


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), r"file1000002.h5: cannot be read as HDF5"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5000]), r"file1000002.h5: cannot be read as HDF5: .*trunc"),
        (lambda path: path.write_bytes(b"x" * 5000), r"file1000002.h5: cannot be read as HDF5"),
        (lambda path: path.unlink(), r"singlecoil_train: 2 files, 3 needed"),
        (changed(lambda f: f.__delitem__("kspace")), r"file1000002.h5: has no data set 'kspace', only ismrmrd_header"),
        (changed(lambda f: f.__delitem__("reconstruction_esc")), r"has no data set 'reconstruction_esc'"),
        (changed(lambda f: f.move("kspace", b"ksp\xffce")), r"has no data set 'kspace', only .*ksp\\xffce"),
        (changed(lambda f: f.attrs.__delitem__("max")), r"file1000002.h5: has no attribute 'max'"),
        (changed(lambda f: f.attrs.__setitem__("max", 0.0)), r"attribute 'max' is 0.0; a positive number needed"),
        (changed(with_a_group), r"kspace is no data set"),
        (replaced("kspace", lambda k: k[:, 1:]), r"k-space is 9 slices of 63x37; slices with 64 rows and at least 32"),
        (replaced("kspace", lambda k: k[:, None]), r"kspace has shape \(9, 1, 64, 37\) and type complex64; three dim"),
        (replaced("kspace", np.abs), r"kspace has shape \(9, 64, 37\) and type float32; three .* complex numbers"),
        (replaced("kspace", with_nan), r"kspace of slice 3 has values that are not finite"),
        (replaced("kspace", blank), r"slice 2 is blank: it cannot be standardised"),
        (replaced("reconstruction_esc", lambda t: t[1:]), r"has shape \(8, 32, 32\), \(9, 32, 32\) needed"),
    ],
)
def test_a_damaged_file_is_named(
    raw: Path, workload: WorkloadSpec, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(raw, source)
    damage(source / "singlecoil_train" / "file1000002.h5")

    with pytest.raises(DataError, match=message):
        prepare.prepare(request_for(workload, source, tmp_path / "out"))

    assert not (tmp_path / "out" / "manifest.json").exists()


def test_whatever_bytes_are_damaged_the_file_is_named(raw: Path, workload: WorkloadSpec) -> None:
    content = (raw / "singlecoil_train" / "file1000002.h5").read_bytes()
    params, generator, refusals = Params.from_mapping(workload.params), np.random.default_rng(0), []

    for _ in range(400):
        damaged = bytearray(content)
        damaged[generator.integers(8_000)] = generator.integers(256)
        try:
            read_volume(io.BytesIO(bytes(damaged)), params, where="the file")
        except DataError as problem:
            refusals.append(problem.where)

    assert len(refusals) > 20
    assert set(refusals) == {"the file"}


def test_a_truncated_archive_is_named(raw: Path, workload: WorkloadSpec, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copytree(raw / "singlecoil_val", source / "singlecoil_val")
    archive = source / "knee_singlecoil_train.tar.xz"
    with tarfile.open(archive, "w:xz") as opened:
        opened.add(raw / "singlecoil_train", "singlecoil_train")
    archive.write_bytes(archive.read_bytes()[:-3000])

    with pytest.raises(DataError, match=r"knee_singlecoil_train.tar.xz: cannot be unpacked"):
        prepare.prepare(request_for(workload, source, tmp_path / "out"))


def test_missing_and_empty_sources_are_named(raw: Path, workload: WorkloadSpec, tmp_path: Path) -> None:
    def attempt() -> None:
        prepare.prepare(request_for(workload, tmp_path / "source", tmp_path / "out"))

    with pytest.raises(DataError, match=r"source: the source folder does not exist\n  hint: give --source DIR"):
        attempt()
    shutil.copytree(raw / "singlecoil_train", tmp_path / "source" / "singlecoil_train")
    with pytest.raises(DataError, match=r"the val part is missing\n  hint: the folder needs one of singlecoil_val"):
        attempt()
    (tmp_path / "source" / "singlecoil_val").mkdir()
    with pytest.raises(DataError, match=r"singlecoil_val: the folder has no \*.h5 file"):
        attempt()
    (tmp_path / "source" / "singlecoil_val").rmdir()
    (tmp_path / "source" / "knee_singlecoil_val.tar.xz").touch()
    with pytest.raises(DataError, match=r"knee_singlecoil_val.tar.xz: the file is empty"):
        attempt()
    with pytest.raises(DataError, match=r"needs the public files\n  hint: accept the agreement at fastmri.med.nyu.edu"):
        prepare.prepare(request_for(workload, None, tmp_path / "out"))


def test_verify_names_what_is_missing_truncated_or_short(raw: Path, workload: WorkloadSpec, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the data is not prepared\n  hint: run `the command`"):
        prepare.verify(workload, tmp_path, prepare_command="the command")
    manifest = prepare.prepare(request_for(workload, raw, tmp_path))

    with pytest.raises(DataError, match=r"train: 27, the workload needs 34742"):
        prepare.verify(workload_of("fastmri", "full"), tmp_path, prepare_command="the command")
    with pytest.raises(DataError, match=r"images of 32 pixels a side, the workload needs 64"):
        other = workload_of("fastmri", "full", **{**SMALL, "image_size": 64})
        prepare.verify(other, tmp_path, prepare_command="the command")
    file = tmp_path / next(iter(manifest.files))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{file.name}: truncated data file"):
        prepare.verify(workload, tmp_path, prepare_command="the command")
    file.unlink()
    with pytest.raises(DataError, match=rf"{file.name}: missing data file"):
        prepare.verify(workload, tmp_path, prepare_command="the command")


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["phantoms", "brain"])
def test_small_data_is_the_same_every_time_and_has_the_workload_s_counts(dataset: str, tmp_path: Path) -> None:
    if dataset == brain.NAME:
        pytest.importorskip("nilearn", reason="the data set is made from this package", exc_type=ImportError)
    small = compose_workload("fastmri", scale="mini", dataset=dataset)

    first = prepare.prepare(request_for(small, None, tmp_path / "a"))
    again = prepare.prepare(request_for(small, None, tmp_path / "b"))

    assert first == again
    prepare.verify(small, tmp_path / "a", prepare_command="the command")
    assert not (tmp_path / "a" / "raw").exists()


def test_small_files_hold_what_the_public_ones_hold(raw: Path) -> None:
    path = raw / "singlecoil_train" / "file1000001.h5"
    volume = read_volume(path, params_of(**SMALL), where=str(path))

    with h5py.File(path) as file:
        assert set(file) == {"kspace", "reconstruction_esc", "reconstruction_rss", "ismrmrd_header"}
        assert set(file.attrs) == {"max", "norm", "acquisition", "patient_id"}
        assert (file["kspace"].dtype, file["reconstruction_esc"].dtype) == (np.complex64, np.float32)
    whole = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(volume.kspace, axes=(1, 2)), norm="ortho"), axes=(1, 2))
    left = (volume.kspace.shape[2] - 32) // 2
    assert np.abs(np.abs(whole[:, 16:48, left : left + 32]) - volume.targets).max() < 1e-6 * volume.maximum
    assert volume.maximum == pytest.approx(float(volume.targets.max()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 16}, "4 pools need images of at least 32 pixels a side, not 16"),
        ({"kspace_rows": 300}, "kspace_rows .300. must not be fewer than image_size .320."),
        ({"center_fraction": 0.3}, "the centre alone .0.3. exceeds the share of columns kept, 1/4"),
        ({"expected_volumes": {"train": 1}}, "expected_examples and expected_volumes need 'validation'"),
    ],
)
def test_impossible_parameters_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        params_of(**changes)
