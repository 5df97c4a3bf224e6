"""Small real images in class folders: 1,797 handwritten digits of 8 x 8 pixels from the package ``scikit-learn``.

They are the UCI test set (13 writers; the same writers stand in all three parts), enlarged and encoded as JPEG.
Validation and test take 30 images of each class each (a fixed permutation), the rest trains.

``digits`` has them light on dark, as they were scanned. In ``digits_inverted`` every second image of a class is dark on
light, so that no linear function of the pixels tells the classes: a linear model is right on 97 % of the one's
validation images and on 33 % of the other's.
"""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from perfbench.data.images.folders import QUALITY, SIDE, NumberedImage, write_class
from perfbench.data.images.packing import SmallData
from perfbench.data.images.params import ImageParams
from perfbench.data.packages import PackagedFiles
from perfbench.data.preparation import PrepareRequest

PACKAGE = PackagedFiles(
    name="scikit-learn",
    version="1.9.1",
    module="sklearn",
    folder="datasets/data",
    sha256={"digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"},
)
_HELD_OUT_PER_CLASS = 30
_NUM_CLASSES = 10
_MOST = 16
"""Of a pixel in the file."""


def write_raw(
    folder: Path,
    params: ImageParams,  # noqa: ARG001 - the package fixes the counts
    request: PrepareRequest,
    *,
    inverts: bool,
) -> dict[str, JsonValue]:
    """Write class folders; every second image inverted if asked.

    Raises:
        DataError: If the package is not installed, or its file is another one.
    """
    (content,) = PACKAGE.read(dataset=request.workload.dataset).values()
    table = np.loadtxt(gzip.decompress(content).decode().splitlines(), delimiter=",").astype(np.int64)
    pixels = np.rint(table[:, :-1] * 255 / _MOST).astype(np.uint8).reshape(-1, 8, 8)

    def image(number: int) -> NumberedImage:
        return number, pixels[number]

    generator = np.random.RandomState(0)
    for label in range(_NUM_CLASSES):
        request.progress("writing images", label, _NUM_CLASSES)
        members = np.flatnonzero(table[:, -1] == label)
        shuffled = members[generator.permutation(len(members))]
        validation, test, train = (
            [image(int(number)) for number in part]
            for part in np.split(shuffled, [_HELD_OUT_PER_CLASS, 2 * _HELD_OUT_PER_CLASS])
        )
        write_class(folder, label, {"train": train, "val": validation, "test": test}, inverts=inverts)
    return PACKAGE.origin() | {
        "split_seed": 0,
        "inverts": inverts,
        "side": SIDE,
        "jpeg_quality": QUALITY,
    }


SMALL = {
    "digits": SmallData(partial(write_raw, inverts=False)),
    "digits_inverted": SmallData(partial(write_raw, inverts=True)),
}
"""By the name of the data set."""
