"""Pictures of clothes from Debian's ``dataset-fashion-mnist`` (Zalando, MIT): 70,000 grey images of 28 x 28 pixels.

Its files have the form and the names of the public IDX files. Here some of them become class folders of JPEG, as many
as the workload's counts say: the first of each class by a fixed permutation. Training and validation images come from
the public training part, test images from the public test part. Every second image of a class is dark on light, as in
``digits_inverted``: a linear model learns the plain ones too well for a target to tell more than a loop that runs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from perfbench.data.images.folders import QUALITY, SIDE, NumberedImage, write_class
from perfbench.data.images.idx import NUM_CLASSES, TEST_FILES, TRAIN_FILES, Images, read_idx
from perfbench.data.images.packing import SmallData
from perfbench.data.images.params import ImageParams
from perfbench.data.packages import PackagedFiles
from perfbench.data.preparation import PrepareRequest

NAME = "fashion_mnist"
PACKAGE = PackagedFiles(
    name="dataset-fashion-mnist",
    version="0.0~git20200523.55506a9-1",
    folder="usr/share/datasets/fashion-mnist",
    sha256={
        "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    },
)


def write_raw(
    folder: Path, params: ImageParams, request: PrepareRequest, *, package: PackagedFiles
) -> dict[str, JsonValue]:
    """Write class folders with as many images as ``params`` expects, equally many of each class.

    Raises:
        DataError: If the package is not there, or a file of it is another one.
    """
    source = package.checked(request.source, dataset=NAME)
    training = read_idx(*(source / name for name in TRAIN_FILES))
    testing = read_idx(*(source / name for name in TEST_FILES))
    num_train, num_validation, num_test = (
        params.expected_examples[split] // NUM_CLASSES for split in ("train", "validation", "test")
    )
    generator = np.random.RandomState(0)
    for label in range(NUM_CLASSES):
        request.progress("writing images", label, NUM_CLASSES)
        members = _shuffled_members(training, label, generator)
        validation, train = members[:num_validation], members[num_validation : num_validation + num_train]
        test = _shuffled_members(testing, label, generator)[:num_test]
        write_class(
            folder,
            label,
            {"train": _images(training, train), "val": _images(training, validation), "test": _images(testing, test)},
            inverts=True,
        )
    return package.origin() | {"split_seed": 0, "inverts": True, "side": SIDE, "jpeg_quality": QUALITY}


def small_data(package: PackagedFiles) -> SmallData:
    """Return the data set that a package with these files makes."""
    return SmallData(partial(write_raw, package=package), package)


def _shuffled_members(data: Images, label: int, generator: np.random.RandomState) -> NDArray[np.int64]:
    members = np.flatnonzero(data.labels == label)
    return members[generator.permutation(len(members))]


def _images(data: Images, numbers: NDArray[np.int64]) -> list[NumberedImage]:
    return [(int(number), data.images[number]) for number in numbers]


SMALL = {NAME: small_data(PACKAGE)}
"""By the name of the data set."""
