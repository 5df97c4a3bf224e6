"""Files from strangers' disks: whatever stands in a file's place is one error that names it, in every raw format."""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from perfbench.data import source_files
from perfbench.data.images.sources import groups_in
from perfbench.data.source_files import files_below, folders_in, size_of
from perfbench.errors import DataError
from perfbench.results.files import open_regular_file
from tests import small_images
from tests.raw_sources import RAW_SOURCES

_GIVEN = Path(__file__).resolve().parents[2].parent / "shared" / "inputs"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    written: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in written:
            written[name] = tmp_path_factory.mktemp(name.replace(" ", "_"))
            RAW_SOURCES[name].write(written[name])
        return written[name]

    return folder


@pytest.fixture
def copied(pristine: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Give a source that a test may damage."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(pristine(name), tmp_path / "source"))

    return copy


def _files(source: Path) -> list[Path]:
    return sorted(path for path in source.rglob("*") if path.is_file())


def _a_link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _an_endless_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("damage", [_a_link_to_nowhere, _a_folder, _a_pipe, _an_endless_device])
@pytest.mark.parametrize("name", RAW_SOURCES)
def test_what_is_no_file_is_one_error_that_names_it(
    copied: Callable[[str], Path], tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    source = copied(name)
    path = _files(source)[len(_files(source)) // 2]
    damage(path)

    with pytest.raises(DataError) as problem:
        RAW_SOURCES[name].prepare(source, tmp_path / "out")

    assert path.stem in str(problem.value) or str(path.parent) in str(problem.value)
    assert problem.value.hint
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("name", RAW_SOURCES)
def test_a_file_that_must_not_be_read_is_one_error_that_names_it(
    copied: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = copied(name)
    path = _files(source)[-1]
    genuine = open_regular_file

    def refused(asked: Path) -> io.BufferedReader:
        if asked == path:  # tests may run as root, who may read everything
            raise PermissionError(errno.EACCES, "Permission denied", str(asked))
        return genuine(asked)  # type: ignore[return-value]

    monkeypatch.setattr(source_files, "open_regular_file", refused)

    with pytest.raises(DataError, match="cannot be read: Permission denied") as problem:
        RAW_SOURCES[name].prepare(source, tmp_path / "out")

    assert problem.value.where == str(path)
    assert problem.value.hint == "change its permissions"


@pytest.mark.parametrize("name", ["packed sentences", "packed speech", "packed knees", "packed images"])
def test_an_archive_that_was_unpacked_once_keeps_its_name(
    copied: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    source = copied(name)
    before = RAW_SOURCES[name].prepare(source, tmp_path / "before")
    packed = [path for path in _files(source) if path.suffix in (".tgz", ".gz")]
    assert packed
    for path in packed:
        path.write_bytes(gzip.decompress(path.read_bytes()))

    after = RAW_SOURCES[name].prepare(source, tmp_path / "after")

    assert after.files == before.files


@pytest.mark.parametrize("name", ["clicks", "graphs", "digits"])
def test_text_that_was_unpacked_once_keeps_its_name(copied: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    source = copied(name)
    before = RAW_SOURCES[name].prepare(source, tmp_path / "before")
    for path in _files(source):
        path.write_bytes(gzip.decompress(path.read_bytes()))

    assert RAW_SOURCES[name].prepare(source, tmp_path / "after").files == before.files


@pytest.mark.parametrize(("content", "kind"), [(b"<!DOCTYPE html>", "a web page"), (b"PK\3\4rest", "a zip archive")])
def test_something_else_under_an_archive_s_name_is_called_what_it_is(
    copied: Callable[[str], Path], tmp_path: Path, content: bytes, kind: str
) -> None:
    source = copied("packed sentences")
    (source / "dev.tgz").write_bytes(content)

    with pytest.raises(DataError, match=f"dev.tgz: cannot be unpacked: .*; it is {kind}"):
        RAW_SOURCES["packed sentences"].prepare(source, tmp_path / "out")


def test_links_are_followed_and_loops_are_not(copied: Callable[[str], Path], tmp_path: Path) -> None:
    source = copied("speech")
    before = RAW_SOURCES["speech"].prepare(source, tmp_path / "before")
    subset = source / "LibriSpeech" / "train-clean-100"
    speaker = next(iter(subset.iterdir()))
    speaker.rename(tmp_path / "elsewhere")
    speaker.symlink_to(tmp_path / "elsewhere")
    (speaker / "loop").symlink_to(subset)

    assert RAW_SOURCES["speech"].prepare(source, tmp_path / "after").counts == before.counts


@pytest.mark.parametrize("clutter", ["._x.JPEG", ".DS_Store", "Thumbs.db"])
def test_clutter_among_images_is_passed_over(copied: Callable[[str], Path], tmp_path: Path, clutter: str) -> None:
    source = copied("images")
    (source / "train" / small_images.WNIDS[0] / clutter).write_bytes(b"clutter")
    (source / "train" / "__MACOSX").mkdir()
    (source / "val" / ".ipynb_checkpoints").mkdir()

    assert RAW_SOURCES["images"].prepare(source, tmp_path / "out").counts == small_images.COUNTS


@pytest.mark.parametrize(("kind", "name"), [("train", "backup"), ("test", "classes")])
def test_a_folder_that_is_no_class_is_named(
    copied: Callable[[str], Path], tmp_path: Path, kind: str, name: str
) -> None:
    source = copied("images")
    (source / kind / name).mkdir()

    with pytest.raises(DataError, match=f"13 classes instead of 12.*'{name}' is named unlike the others"):
        RAW_SOURCES["images"].prepare(source, tmp_path / "out")


def _rewritten(path: Path, rename: Callable[[str], str]) -> None:
    with tarfile.open(path) as archive:
        members = [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as archive:
        for name, content in sorted((rename(name), content) for name, content in members):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _labels(source: Path) -> dict[bytes, int]:
    groups = groups_in(source, small_images.NUM_CLASSES)["validation"]
    return {content: label for group in groups for _, label, content in group.images()}


@pytest.mark.parametrize("form", ["val_{}.JPEG", "ILSVRC2012_val_{}.JPEG", "photos/{:04d}.jpg"])
def test_validation_images_have_the_label_of_their_number(copied: Callable[[str], Path], form: str) -> None:
    source = copied("packed images")
    before = _labels(source)
    _rewritten(source / "ILSVRC2012_img_val.tar", lambda name: form.format(int(name[-13:-5])))

    assert _labels(source) == before
    assert len(set(before.values())) == small_images.NUM_CLASSES


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (lambda name: name.replace("00000007", "seven"), "'ILSVRC2012_val_seven.JPEG' has no number"),
        (lambda name: name.replace("00000007", "00000099"), "none has the number 7: nobody knows the labels"),
        (lambda name: name.replace("00000007", "8"), "number 8 is there twice"),
    ],
)
def test_validation_images_without_their_numbers_are_refused(
    copied: Callable[[str], Path], tmp_path: Path, rename: Callable[[str], str], message: str
) -> None:
    source = copied("packed images")
    _rewritten(source / "ILSVRC2012_img_val.tar", rename)

    with pytest.raises(DataError, match=message):
        RAW_SOURCES["packed images"].prepare(source, tmp_path / "out")


def test_a_volume_twice_in_an_archive_is_named(copied: Callable[[str], Path], tmp_path: Path) -> None:
    source = copied("packed knees")
    path = source / "knee_singlecoil_val.tar.gz"
    with tarfile.open(path) as archive:
        first = next(member for member in archive if member.isreg())
        content = archive.extractfile(first).read()  # type: ignore[union-attr]
    with gzip.open(path) as packed:
        plain = packed.read()
    path.write_bytes(plain)
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo(f"again/{Path(first.name).name}")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))

    with pytest.raises(DataError, match=f"holds {Path(first.name).name} twice: as {first.name} and as again/"):
        RAW_SOURCES["packed knees"].prepare(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([1.0, 2.0]), r"attribute 'max' has shape \(2,\) and type float64; one number needed"),
        (np.array([]), r"attribute 'max' has shape \(0,\)"),
        ("large", "attribute 'max' has shape .* one number needed"),
    ],
)
def test_a_largest_value_that_is_no_number_is_refused(
    copied: Callable[[str], Path], tmp_path: Path, value: object, message: str
) -> None:
    source = copied("knees")
    path = next(iter((source / "singlecoil_train").iterdir()))
    with h5py.File(path, "a") as file:
        del file.attrs["max"]
        file.attrs["max"] = value

    with pytest.raises(DataError, match=message) as problem:
        RAW_SOURCES["knees"].prepare(source, tmp_path / "out")
    assert path.name in problem.value.where


def test_a_largest_value_in_an_array_of_one_is_read(copied: Callable[[str], Path], tmp_path: Path) -> None:
    source = copied("knees")
    before = RAW_SOURCES["knees"].prepare(source, tmp_path / "before")
    for path in source.rglob("*.h5"):
        with h5py.File(path, "a") as file:
            maximum = file.attrs["max"]
            del file.attrs["max"]
            file.attrs["max"] = np.array([maximum])

    assert RAW_SOURCES["knees"].prepare(source, tmp_path / "after").facts == before.facts


@pytest.mark.skipif(not (_GIVEN / "max_attribute_of_shape_1.h5").exists(), reason="../shared/inputs is not here")
def test_a_volume_from_the_field_is_read_up_to_its_shapes() -> None:
    from perfbench.workloads.fastmri.raw import read_volume
    from tests.unit.fastmri_figures import params_of

    path = _GIVEN / "max_attribute_of_shape_1.h5"
    with h5py.File(path) as file:
        rows, size = file["kspace"].shape[1], file["reconstruction_esc"].shape[1]
        (maximum,) = file.attrs["max"]

    volume = read_volume(path, params_of(image_size=int(size), kspace_rows=int(rows)), where="here")

    assert volume.maximum == maximum


def test_sizes_and_listings_name_what_they_cannot_read(tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    lost.symlink_to(tmp_path / "nowhere")

    with pytest.raises(DataError, match="lost: a link to nowhere"):
        size_of(lost)
    with pytest.raises(DataError, match="lost: a link to nowhere"):
        folders_in(tmp_path)
    with pytest.raises(DataError, match="absent: the file is missing"):
        size_of(tmp_path / "absent")
    assert list(files_below(tmp_path)) == [lost]
