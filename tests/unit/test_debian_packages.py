"""Data sets made from Debian packages: on tiny files of the same form everywhere, on the real ones where installed."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from perfbench.compose import compose_workload
from perfbench.data import packages
from perfbench.data.images import fashion, packing
from perfbench.data.images.idx import TEST_FILES, TRAIN_FILES, Images, write_idx
from perfbench.data.images.packs import PackReader
from perfbench.data.images.params import ImageParams
from perfbench.data.packages import PackagedFiles
from perfbench.data.preparation import Manifest, PrepareRequest, data_folder
from perfbench.errors import DataError
from perfbench.launch.preflight import ensure_data
from perfbench.registry import preparer_of
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.fastmri import prepare as fastmri_prepare
from perfbench.workloads.fastmri import templates
from perfbench.workloads.fastmri.anatomy import read_nifti
from perfbench.workloads.fastmri.params import Params
from perfbench.workloads.mnist import prepare as mnist_prepare
from perfbench.workloads.mnist.arrays import stored_split

PER_CLASS = {"train": 7, "test": 4}
PERSON_SHAPE, MACAQUE_SHAPE = (26, 30, 34), (24, 28, 20)
SMALL_HEADS = {"image_size": 16, "kspace_rows": 32}
STORED_SPLITS = ("train", "validation", "test")
OPTIONS = [
    ("mnist", fashion.NAME, fashion.PACKAGE),
    ("imagenet_resnet", fashion.NAME, fashion.PACKAGE),
    ("imagenet_vit", fashion.NAME, fashion.PACKAGE),
    ("fastmri", templates.NAME, templates.PACKAGE),
]


def spec_of(workload: str, dataset: str, **params: object) -> WorkloadSpec:
    spec = compose_workload(workload, scale="mini", dataset=dataset)
    return spec.model_copy(update={"params": spec.params | params})


def request(spec: WorkloadSpec, source: Path | None, destination: Path) -> PrepareRequest:
    return PrepareRequest(
        workload=spec, destination=destination, source=source, progress=lambda what, done, total: None, options={}
    )


def with_digests_of(folder: Path, package: PackagedFiles) -> PackagedFiles:
    return replace(
        package, sha256={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in package.sha256}
    )


def clothes(num_per_class: int, seed: int) -> Images:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(10, dtype=np.uint8), num_per_class))
    return Images(generator.integers(0, 256, size=(len(labels), 28, 28), dtype=np.uint8), labels)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``dpkg -x`` of both packages leaves, with tiny files."""
    root = tmp_path_factory.mktemp("unpacked")
    images, heads = root / fashion.PACKAGE.folder, root / templates.PACKAGE.folder
    for folder in (images, heads):
        folder.mkdir(parents=True)
    write_idx(images, TRAIN_FILES, clothes(PER_CLASS["train"], 0))
    write_idx(images, TEST_FILES, clothes(PER_CLASS["test"], 1))
    write_nifti(heads / templates.PERSON_FILE, head(PERSON_SHAPE).astype(np.uint8))
    write_nifti(heads / templates.MACAQUE_FILE, (head(MACAQUE_SHAPE) / 3).astype(np.float32))
    return root


@pytest.fixture(scope="module")
def images_package(unpacked: Path) -> PackagedFiles:
    return with_digests_of(unpacked / fashion.PACKAGE.folder, fashion.PACKAGE)


@pytest.fixture(scope="module")
def heads_package(unpacked: Path) -> PackagedFiles:
    return with_digests_of(unpacked / templates.PACKAGE.folder, templates.PACKAGE)


def head(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return a bright ball with a darker core, dark outside."""
    axes = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    return np.select([radius < 0.4, radius < 0.9], [90.0, 200.0], default=0.0)


def write_nifti(path: Path, volume: NDArray[Any]) -> None:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *volume.shape, 1, 1, 1, 1)
    struct.pack_into("<h", header, 70, {"u1": 2, "f4": 16}[volume.dtype.str[1:]])
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    path.write_bytes(gzip.compress(bytes(header) + volume.tobytes(order="F"), mtime=0))


def packed(package: PackagedFiles, spec: WorkloadSpec, source: Path, destination: Path) -> Manifest:
    params = ImageParams.from_mapping({name: spec.params[name] for name in ImageParams.model_fields})
    return packing.prepare(request(spec, source, destination), params, {fashion.NAME: fashion.small_data(package)})


def test_clothes_become_class_folders_and_packs(unpacked: Path, images_package: PackagedFiles, tmp_path: Path) -> None:
    counts = {"train": 40, "validation": 20, "test": 30}
    spec = spec_of("imagenet_resnet", fashion.NAME, expected_examples=counts)

    manifest = packed(images_package, spec, unpacked, tmp_path)

    assert manifest.counts == counts
    assert manifest.origin["package"] == "dataset-fashion-mnist"
    assert manifest.origin["version"] == "0.0~git20200523.55506a9-1"
    assert manifest.origin["sha256"] == images_package.sha256
    numbers: dict[str, set[int]] = {}
    for split, count in counts.items():
        data = clothes(PER_CLASS["test" if split == "test" else "train"], 1 if split == "test" else 0)
        reader = PackReader(tmp_path, split, packing.packs_of(manifest, split))
        names = [reader.name(number).rpartition("_")[2].partition(".")[0] for number in range(len(reader))]
        numbers[split] = {int(name) for name in names}
        labels = [reader.label(number) for number in range(len(reader))]
        assert labels == [int(data.labels[int(name)]) for name in names]
        assert np.bincount(labels).tolist() == [count // 10] * 10
        assert len(numbers[split]) == count
        shown = [
            np.asarray(Image.open(io.BytesIO(reader.read(place))).convert("L").resize((28, 28)))
            for place in range(count)
        ]
        likeness = [
            np.corrcoef(one.ravel(), data.images[int(name)].ravel())[0, 1]
            for one, name in zip(shown, names, strict=True)
        ]
        assert min(np.abs(likeness)) > 0.5
        assert sum(value < 0 for value in likeness) == 10 * (count // 10 // 2)  # every second image of each class
    assert not numbers["train"] & numbers["validation"]
    assert packed(images_package, spec, unpacked, tmp_path / "again") == manifest
    assert not (tmp_path / "raw").exists()


def test_too_few_clothes_are_refused(unpacked: Path, images_package: PackagedFiles, tmp_path: Path) -> None:
    spec = spec_of("imagenet_vit", fashion.NAME, expected_examples={"train": 60, "validation": 20, "test": 30})

    with pytest.raises(DataError, match="train has 50 images, the workload needs 60"):
        packed(images_package, spec, unpacked, tmp_path)


def test_the_package_s_files_are_taken_as_the_public_ones_are(
    unpacked: Path, images_package: PackagedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mnist_prepare.DEBIAN_PACKAGES, fashion.NAME, images_package)
    spec = spec_of("mnist", fashion.NAME, expected_examples={"train": 50, "validation": 20, "test": 40})

    manifest = mnist_prepare.prepare(request(spec, unpacked, tmp_path / "root"))
    direct = mnist_prepare.prepare(request(spec, unpacked / images_package.folder, tmp_path / "folder"))

    assert manifest == direct
    assert manifest.origin == images_package.origin()
    assert np.array_equal(stored_split(tmp_path / "root", "train").images, clothes(7, 0).images[:50])
    assert np.array_equal(stored_split(tmp_path / "root", "test").labels, clothes(4, 1).labels)
    with pytest.raises(DataError, match="validation has 19 images, the workload needs 20"):
        wrong = spec_of("mnist", fashion.NAME, expected_examples={"train": 51, "validation": 20, "test": 40})
        mnist_prepare.prepare(request(wrong, unpacked, tmp_path / "wrong"))


def test_heads_become_volumes_of_which_one_direction_of_the_person_is_held_out(
    unpacked: Path, heads_package: PackagedFiles, tmp_path: Path
) -> None:
    spec = spec_of("fastmri", templates.NAME, **SMALL_HEADS)
    params = Params.from_mapping(spec.params)

    origin = templates.write_raw(tmp_path, params, request(spec, unpacked, tmp_path), package=heads_package)

    assert origin == heads_package.origin() | {"seed": 0}
    volumes: dict[str, list[tuple[str, int]]] = {"train": [], "val": []}
    for part, found in volumes.items():
        for path in sorted((tmp_path / f"singlecoil_{part}").iterdir()):
            with h5py.File(path) as file:
                image = file["reconstruction_esc"][file["reconstruction_esc"].shape[0] // 2]
                assert file["kspace"].shape[1:] == (32, 18)
                found.append((file.attrs["patient_id"], file["kspace"].shape[0]))
            assert image[:2, :2].mean() < 0.3 * image.max()  # dark outside
    assert volumes["train"] == [(name, count) for name in ("colin27", "inia19") for count in VOLUMES_OF[name]]
    assert volumes["val"] == [("colin27", 8), ("colin27", 8), ("colin27", 8), ("colin27", NUM_AXIAL - 24)]


def num_usable(volume: NDArray[np.float64], axis: int) -> int:
    """Count the slices of which 8 % are bright, the slow way."""
    slices = [np.take(volume, number, axis=axis) for number in range(volume.shape[axis])]
    return len([pixels for pixels in slices if np.count_nonzero(pixels > 20) / pixels.size > 0.08])


def in_twelves(count: int) -> list[int]:
    return [min(12, count - first) for first in range(0, count, 12)]


NUM_AXIAL = num_usable(head(PERSON_SHAPE), 2)
VOLUMES_OF = {
    "colin27": [size for axis in (0, 1) for size in in_twelves(num_usable(head(PERSON_SHAPE), axis))],
    "inia19": [size for axis in (0, 1, 2) for size in in_twelves(num_usable(head(MACAQUE_SHAPE), axis))],
}


def test_heads_are_prepared_through_the_public_form(
    unpacked: Path, heads_package: PackagedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fastmri_prepare.Generator(partial(templates.write_raw, package=heads_package), heads_package)
    monkeypatch.setitem(fastmri_prepare.GENERATORS, templates.NAME, made)
    training = [size for sizes in VOLUMES_OF.values() for size in sizes]
    counts = {"train": sum(training), "validation": 16, "test": NUM_AXIAL - 16}
    volumes = {"train": len(training), "validation": 2, "test": 2}
    spec = spec_of("fastmri", templates.NAME, **SMALL_HEADS, expected_examples=counts, expected_volumes=volumes)
    asked = request(spec, unpacked, tmp_path)

    manifest = fastmri_prepare.prepare(asked)

    assert fastmri_prepare.verify(spec, tmp_path, prepare_command="the command") == manifest
    assert {name: manifest.counts[name] for name in counts} == counts
    assert not (tmp_path / "raw").exists()
    assert sum(entry.size_bytes for entry in manifest.files.values()) < fastmri_prepare.required_bytes(asked)


@pytest.mark.parametrize(("workload", "dataset", "package"), OPTIONS)
def test_a_missing_package_is_named_before_anything_starts(
    workload: str, dataset: str, package: PackagedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "SYSTEM_ROOT", tmp_path / "root")
    spec = compose_workload(workload, scale="mini", dataset=dataset)
    first = next(iter(package.sha256))
    message = (
        f"data set {dataset}: is made from the Debian package {package.name}, which is not there: "
        f"no {tmp_path / 'root' / package.folder / first}\n"
        f"  hint: run `apt-get install {package.name}` as root; or, without root, `apt-get download {package.name}`, "
    )

    with pytest.raises(DataError, match=re.escape(message)):
        ensure_data(spec, tmp_path / "data", lambda *_: None, may_prepare=True)
    with pytest.raises(DataError, match=re.escape(message)):
        preparer_of(workload).prepare(request(spec, None, tmp_path / "other"))

    assert not data_folder(tmp_path / "data", spec).exists()


@pytest.mark.parametrize(("workload", "dataset", "package"), OPTIONS)
def test_other_files_than_the_known_ones_are_refused(
    workload: str, dataset: str, package: PackagedFiles, unpacked: Path, tmp_path: Path
) -> None:
    first, digest = next(iter(package.sha256.items()))
    message = rf"{first}: sha256 [0-9a-f]{{64}}, expected {digest}\n  hint: not as in {package.name} "

    with pytest.raises(DataError, match=message):
        preparer_of(workload).prepare(
            request(compose_workload(workload, scale="mini", dataset=dataset), unpacked, tmp_path)
        )
    assert not (tmp_path / "manifest.json").exists()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def of_another_type(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<h", content, 70, 4)
    path.write_bytes(gzip.compress(bytes(content)))


def with_fewer_values(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, r"head.nii.gz: cannot be read as NIfTI: .*\n  hint: the hint"),
        (of_another_type, "header of 348 bytes, 3 dimensions, values of type 4; 348, 3, and 2 or 16 needed"),
        (with_fewer_values, "cannot be read as NIfTI: buffer is smaller than requested size"),
    ],
)
def test_a_damaged_volume_is_named(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "head.nii.gz"
    write_nifti(path, head((5, 6, 7)).astype(np.uint8))
    damage(path)

    with pytest.raises(DataError, match=message):
        read_nifti(path, hint="the hint")


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_volume_is_read_in_the_order_of_its_axes(kind: type[np.uint8 | np.float32], tmp_path: Path) -> None:
    volume = np.arange(5 * 6 * 7).reshape(5, 6, 7).astype(kind)
    write_nifti(tmp_path / "head.nii.gz", volume)

    assert np.array_equal(read_nifti(tmp_path / "head.nii.gz", hint=""), volume)


def real(workload: str, dataset: str, package: PackagedFiles) -> object:
    """Return a test case that is left out, loudly, where the package is not installed."""
    is_installed = (packages.SYSTEM_ROOT / package.folder).is_dir()
    reason = f"Debian's {package.name} is not installed: apt-get install {package.name}"
    return pytest.param(workload, dataset, package, marks=[pytest.mark.skipif(not is_installed, reason=reason)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workload", "dataset", "package"), [real(*option) for option in OPTIONS if option[0] != "imagenet_vit"]
)
def test_the_real_package_gives_what_the_workload_needs(
    workload: str, dataset: str, package: PackagedFiles, tmp_path: Path
) -> None:
    spec = compose_workload(workload, scale="mini", dataset=dataset)

    ensure_data(spec, tmp_path, lambda *_: None, may_prepare=True)

    folder = data_folder(tmp_path, spec)
    manifest = Manifest.read(folder, prepare_command="")
    assert manifest.origin.items() >= package.origin().items()
    assert {split: manifest.counts[split] for split in STORED_SPLITS} == spec.params["expected_examples"]
    for other, same_dataset, _ in OPTIONS:  # families on the same photographs share the folder
        needed = compose_workload(other, scale="mini", dataset=same_dataset)
        if data_folder(tmp_path, needed) == folder:
            assert preparer_of(other).verify(needed, folder, prepare_command="") == manifest
