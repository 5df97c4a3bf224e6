"""From the four public IDX files to arrays; checked, the manifest last."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import JsonValue

from perfbench.data.images import fashion
from perfbench.data.images.idx import IMAGE_SIDE, TEST_FILES, TRAIN_FILES, Images, read_idx
from perfbench.data.preparation import (
    Manifest,
    PrepareRequest,
    entry_for,
    passing_folder,
    require_counts,
    require_source_folder,
    small_data,
)
from perfbench.data.source_files import content_of, is_there
from perfbench.errors import DataError
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.mnist import packaged
from perfbench.workloads.mnist.arrays import FORMAT_VERSION, write_split
from perfbench.workloads.mnist.params import Params

PUBLIC_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""Of the public data set ``mnist``. Source: torchvision's ``datasets.MNIST``."""
PUBLIC_NAME = "mnist"
DEBIAN_PACKAGES = {fashion.NAME: fashion.PACKAGE}
"""By the name of the data set: packages whose files have the public form."""
_HEADER_BYTES = 1024


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk the arrays (and generated files) need at most.

    Raises:
        DataError: If a Debian package has the files, and is not there.
    """
    dataset = request.workload.dataset
    if dataset in DEBIAN_PACKAGES:
        DEBIAN_PACKAGES[dataset].find(request.source, dataset=dataset)
    params = Params.from_mapping(request.workload.params, where="workload.params")
    return 2 * (sum(params.expected_examples.values()) * (IMAGE_SIDE**2 + 1) + _HEADER_BYTES)


def prepare(request: PrepareRequest) -> Manifest:
    """Convert the source (or files that an installed package gives) into ``request.destination``.

    Raises:
        DataError: If a file is missing, damaged, or not the public one.
    """
    dataset = request.workload.dataset
    if dataset in DEBIAN_PACKAGES:
        package = DEBIAN_PACKAGES[dataset]
        return _convert(request, package.checked(request.source, dataset=dataset), origin=package.origin())
    if request.source is not None:
        folder = _folder_of_files(request.source)
        if dataset == PUBLIC_NAME:
            _check_md5(folder)
        return _convert(request, folder, origin={"source": "public IDX files"})
    source = small_data(
        packaged.SOURCES,
        request.workload,
        hint=f"fetch {', '.join(PUBLIC_MD5)} (README.md of the family says where), and give --source DIR",
    )
    with passing_folder(request.destination / "raw") as raw:
        origin = packaged.write_raw(source, raw, dataset=dataset)
        return _convert(request, raw, origin=origin)


def verify(workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what ``workload`` needs; reads only the manifest and file sizes.

    Raises:
        DataError: If files are missing or truncated, or counts are not the workload's.
    """
    manifest = Manifest.read_checked(folder, format_version=FORMAT_VERSION, prepare_command=prepare_command)
    _check_counts(workload, manifest.counts, where=str(folder / "manifest.json"))
    return manifest


def _folder_of_files(source: Path) -> Path:
    """Return where the files are: in the folder itself, or where torchvision keeps them."""
    require_source_folder(source)
    nested = source / "MNIST" / "raw"
    return nested if nested.is_dir() else source


def _check_md5(folder: Path) -> None:
    for name, expected in PUBLIC_MD5.items():
        path = folder / name
        if not is_there(path):
            raise DataError("the file is missing", where=str(path), hint="the folder needs all four public files")
        actual = hashlib.md5(content_of(path), usedforsecurity=False).hexdigest()
        if actual != expected:
            raise DataError(f"md5 {actual}, the public file has {expected}", where=str(path), hint="fetch it again")


def _convert(request: PrepareRequest, source: Path, *, origin: dict[str, JsonValue]) -> Manifest:
    destination = request.destination
    destination.mkdir(parents=True, exist_ok=True)
    params = Params.from_mapping(request.workload.params, where="workload.params")
    request.progress("reading", 0, 2)
    train = read_idx(*(source / name for name in TRAIN_FILES))
    test = read_idx(*(source / name for name in TEST_FILES))
    num_train = params.expected_examples["train"]
    splits = {
        "train": Images(train.images[:num_train], train.labels[:num_train]),
        "validation": Images(train.images[num_train:], train.labels[num_train:]),
        "test": test,
    }
    counts = {split: len(data.labels) for split, data in splits.items()}
    _check_counts(request.workload, counts, where=str(source))
    request.progress("writing", 1, 2)
    paths = [path for split, data in splits.items() for path in write_split(destination, split, data)]
    manifest = Manifest(
        family=request.workload.family,
        dataset=request.workload.dataset,
        format_version=FORMAT_VERSION,
        origin=origin,
        counts=counts,
        files={path.name: entry_for(path) for path in paths},
    )
    manifest.write(destination)
    request.progress("writing", 2, 2)
    return manifest


def _check_counts(workload: WorkloadSpec, counts: dict[str, int], *, where: str) -> None:
    params = Params.from_mapping(workload.params, where="workload.params")
    hint = "use the complete data set, or set workload.params.expected_examples"
    require_counts(counts, params.expected_examples.items(), unit="images", where=where, hint=hint)
