"""From archives and class folders to packs: labels, resuming, and every way in which a source can be damaged."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from perfbench.data.images import packing, packs, sources
from perfbench.data.images.digits import SMALL
from perfbench.data.images.packs import Index, PackReader, write_pack
from perfbench.data.images.sources import Image as NamedImage
from perfbench.data.images.sources import labels_of
from perfbench.data.preparation import Manifest
from perfbench.errors import DataError
from tests import small_images
from tests.small_images import WNIDS, params_of, request


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    small_images.write_archives(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders")
    small_images.write_folders(folder)
    return folder


def packed(source: Path, destination: Path) -> Manifest:
    return packing.prepare(request(source, destination), params_of(), {})


def content(folder: Path, manifest: Manifest, split: str) -> dict[str, tuple[int, bytes]]:
    reader = PackReader(folder, split, packing.packs_of(manifest, split))
    names = [reader.name(number).rpartition(", ")[2] for number in range(len(reader))]
    images = {name: (reader.label(number), reader.read(number)) for number, name in enumerate(names)}
    return {f"{label}/{name.rpartition('/')[2]}": (label, encoded) for name, (label, encoded) in images.items()}


def test_integer_folders_are_their_own_labels_and_wnids_are_sorted() -> None:
    assert labels_of(["2", "10"]) == {"2": 2, "10": 10}
    assert labels_of(["n01443537", "n01440764"]) == {"n01440764": 0, "n01443537": 1}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_archives_and_class_folders_give_the_same_labelled_bytes(
    archives: Path, folders: Path, tmp_path: Path, split: str
) -> None:
    first, second = packed(archives, tmp_path / "a"), packed(folders, tmp_path / "f")

    assert first.counts == second.counts == small_images.COUNTS
    images = content(tmp_path / "a", first, split)
    assert images == content(tmp_path / "f", second, split)
    assert len(images) == small_images.COUNTS[split]
    assert packing.verify(params_of(), tmp_path / "a", prepare_command="p") == first


def test_labels_follow_ids_wnids_and_integer_folders(archives: Path, tmp_path: Path) -> None:
    manifest = packed(archives, tmp_path)

    validation = PackReader(tmp_path, "validation", packing.packs_of(manifest, "validation"))
    for number in range(len(validation)):
        assert validation.name(number).endswith(f"ILSVRC2012_val_{number + 1:08d}.JPEG")
        assert validation.label(number) == small_images.validation_label(number + 1)
    test = PackReader(tmp_path, "test", packing.packs_of(manifest, "test"))
    assert [test.label(number) for number in range(12)] == list(range(12))
    assert test.read(10) == small_images.jpeg(10, 99)


@pytest.mark.parametrize("limit", [1, 7, 13])
def test_an_interrupted_preparation_continues_to_the_same_manifest(archives: Path, tmp_path: Path, limit: int) -> None:
    whole = packed(archives, tmp_path / "whole")
    written = []
    original = write_pack

    class PowerCutError(Exception):
        pass

    def failing(path: Path, images: Iterable[NamedImage]) -> Index:
        written.append(path.name)
        if len(written) > limit:
            raise PowerCutError
        return original(path, images)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(packing, "write_pack", failing)
        packed(archives, tmp_path / "cut")
    assert not (tmp_path / "cut" / "manifest.json").exists()
    again: list[str] = []

    def counted(path: Path, images: Iterable[NamedImage]) -> Index:
        again.append(path.name)
        return original(path, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "write_pack", counted)
        continued = packed(archives, tmp_path / "cut")

    assert continued == whole
    assert len(again) == len(whole.files) - 3 - limit, "finished packs are not written again"
    assert {p.name for p in (tmp_path / "cut").iterdir()} == {*whole.files, "manifest.json"}


def damaged(name: str, change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: change(folder / name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged(f"train/{WNIDS[3]}", shutil.rmtree), r"train: 11 classes instead of 12"),
        (damaged("test/10", shutil.rmtree), r"test: 11 classes instead of 12, without label 10"),
        (damaged("val", shutil.rmtree), r"no images of validation\n  hint: the folder needs ILSVRC2012_img_train.tar"),
        (
            damaged(f"train/{WNIDS[3]}/{WNIDS[3]}_1.JPEG", lambda path: path.write_bytes(b"")),
            rf"train, {WNIDS[3]}, {WNIDS[3]}_1.JPEG: the file is empty",
        ),
        (
            damaged(f"train/{WNIDS[3]}/{WNIDS[3]}_1.JPEG", lambda path: path.write_bytes(path.read_bytes()[:-300])),
            rf"train, {WNIDS[3]}, {WNIDS[3]}_1.JPEG: cannot be decoded: Image is incomplete or truncated",
        ),
        (
            damaged(f"train/{WNIDS[3]}/{WNIDS[3]}_1.JPEG", lambda path: path.write_bytes(b"no image at all")),
            rf"{WNIDS[3]}_1.JPEG: is no image",
        ),
        (
            damaged(f"train/{WNIDS[3]}/{WNIDS[3]}_1.JPEG", lambda path: Image.open(path).save(path, format="BMP")),
            rf"{WNIDS[3]}_1.JPEG: is no image of a kind that is read",
        ),
        (
            damaged(f"train/{WNIDS[3]}/{WNIDS[3]}_1.JPEG", Path.unlink),
            r"train has 47 images, the workload needs 48",
        ),
    ],
)
def test_a_damaged_folder_is_named(
    folders: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(folders, source)
    damage(source)

    with pytest.raises(DataError, match=message):
        packed(source, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ILSVRC2012_img_train.tar", r"ILSVRC2012_img_train.tar"),
        ("ILSVRC2012_img_val.tar", r"ILSVRC2012_img_val.tar"),
        ("imagenetv2-matched-frequency.tar.gz", r"imagenetv2-matched-frequency.tar.gz: .*cannot be unpacked"),
        ("ILSVRC2012_devkit_t12.tar.gz", r"ILSVRC2012_devkit_t12.tar.gz: .*cannot be unpacked"),
    ],
)
def test_a_truncated_archive_is_named(archives: Path, tmp_path: Path, name: str, message: str) -> None:
    source = tmp_path / "source"
    shutil.copytree(archives, source)
    path = source / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

    with pytest.raises(DataError, match=message):
        packed(source, tmp_path / "out")


def test_validation_images_without_the_development_kit_are_refused(archives: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(archives, source)
    (source / "ILSVRC2012_devkit_t12.tar.gz").unlink()

    with pytest.raises(
        DataError, match=r"devkit_t12.tar.gz: the file is missing\n  hint: .*img_val.tar holds no labels"
    ):
        packed(source, tmp_path / "out")


def test_more_packs_than_files_may_be_open_are_read(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = packed(folders, tmp_path)
    whole = content(tmp_path, manifest, "train")
    monkeypatch.setattr(packs, "most_open", lambda: 3)
    reader = PackReader(tmp_path, "train", packing.packs_of(manifest, "train"))
    before = len(list(Path("/proc/self/fd").iterdir()))

    read = [reader.read(number) for number in range(len(reader))]

    assert sorted(read) == sorted(encoded for _, encoded in whole.values())
    assert len(packing.packs_of(manifest, "train")) == 12
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 3


def test_a_truncated_pack_is_named_by_verify(folders: Path, tmp_path: Path) -> None:
    packed(folders, tmp_path)
    path = tmp_path / f"train.{WNIDS[0]}.pack"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(DataError, match=rf"train.{WNIDS[0]}.pack: truncated data file"):
        packing.verify(params_of(), tmp_path, prepare_command="perfbench data prepare x")


def test_full_scale_without_a_source_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data set drawn: needs the public files\n  hint: register at image-net.org"):
        packing.prepare(request(None, tmp_path), params_of(), SMALL)


def as_public(source: Path, destination: Path, *, trust_archives: bool = False) -> Manifest:
    """Pack drawn archives under the name of the public data set."""
    spec = small_images.spec_of().model_copy(update={"dataset": sources.PUBLIC_DATASET})
    options = {"trust_archives": trust_archives}
    return packing.prepare(replace(request(source, destination), workload=spec, options=options), params_of(), {})


def test_other_archives_than_the_public_ones_are_refused_unless_trusted(archives: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"ILSVRC2012_img_train.tar: md5 [0-9a-f]{32}, the public file has 1d675b47d978889d74fa0da5fadfb00e\n"
        r"  hint: fetch it again; --trust-archives goes without this check",
    ):
        as_public(archives, tmp_path / "refused")

    assert as_public(archives, tmp_path / "trusted", trust_archives=True).counts == small_images.COUNTS


def test_the_public_archives_pass(archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    md5 = {name: hashlib.md5((archives / name).read_bytes()).hexdigest() for name in sources.PUBLIC_MD5}
    monkeypatch.setattr(sources, "PUBLIC_MD5", md5)
    reports = []

    sources.check_archives(archives, lambda what, done, total: reports.append((what, done, total)))

    assert reports == [(f"checking {name}", 0, 1) for name in md5]


def test_archives_are_checked_before_the_first_pack_and_not_when_continuing(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    monkeypatch.setattr(packing, "check_archives", lambda source, _: checked.append(source))

    def interrupted(path: Path, images: Iterable[NamedImage]) -> Index:
        if path.name.startswith("validation"):
            raise KeyboardInterrupt
        return write_pack(path, images)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(packing, "write_pack", interrupted)
        as_public(archives, tmp_path)
    as_public(archives, tmp_path)

    assert checked == [archives]


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_packaged_digits_pass_through_the_same_preparation(tmp_path: Path) -> None:
    from perfbench.compose import compose_workload
    from perfbench.workloads.imagenet_resnet import prepare

    small = request(None, tmp_path)
    spec = compose_workload("imagenet_resnet", scale="mini")

    manifest = prepare.prepare(
        type(small)(**{name: getattr(small, name) for name in small.__slots__} | {"workload": spec})
    )

    assert manifest.counts == {"train": 1197, "validation": 300, "test": 300}
    reader = PackReader(tmp_path, "test", packing.packs_of(manifest, "test"))
    assert sorted(reader.label(n) for n in range(300)) == [label for label in range(10) for _ in range(30)]
    assert not (tmp_path / "raw").exists()
