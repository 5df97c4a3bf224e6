"""Small real images in class folders: 1,797 handwritten digits of 8 x 8 pixels from the package ``scikit-learn``.

They are the UCI test set (13 writers; the same writers stand in all three parts), enlarged to 40 x 40 and encoded as
JPEG. Validation and test take 30 images of each class each (a fixed permutation), the rest trains. The folders of the
test set are named by integers, as in ImageNet-v2, so that its label rule is used.

``digits`` has them light on dark, as they were scanned. In ``digits_inverted`` every second image of a class is dark on
light, so that no linear function of the pixels tells the classes: a linear model is right on 97 % of the one's
validation images and on 33 % of the other's.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import JsonValue

from perfbench.data.images.packing import SmallData
from perfbench.data.preparation import Progress
from perfbench.errors import DataError

_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
_FILE = "datasets/data/digits.csv.gz"
_HELD_OUT_PER_CLASS = 30
_NUM_CLASSES = 10
_SIDE = 40
_QUALITY = 95


def write_raw(folder: Path, progress: Progress, *, inverts: bool) -> dict[str, JsonValue]:
    """Write ``train|val/n0000000<c>/*.JPEG`` and ``test/<c>/*.jpeg``; every second image inverted if asked.

    Raises:
        DataError: If the package is not installed, or its file is another one.
    """
    table = np.loadtxt(gzip.decompress(_file().read_bytes()).decode().splitlines(), delimiter=",").astype(np.int64)
    generator = np.random.RandomState(0)
    for label in range(_NUM_CLASSES):
        progress("writing images", label, _NUM_CLASSES)
        members = np.flatnonzero(table[:, -1] == label)
        shuffled = members[generator.permutation(len(members))]
        parts = np.split(shuffled, [_HELD_OUT_PER_CLASS, 2 * _HELD_OUT_PER_CLASS])
        wnid = f"n{label:08d}"
        for kind, name, suffix, part in zip(
            ("val", "test", "train"), (wnid, str(label), wnid), ("JPEG", "jpeg", "JPEG"), parts, strict=True
        ):
            target = folder / kind / name
            target.mkdir(parents=True)
            for place, number in enumerate(part):
                pixels = np.rint(table[number, :-1] * 255 / 16).astype(np.uint8).reshape(8, 8)
                pixels = 255 - pixels if inverts and place % 2 else pixels
                image = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).convert("RGB")
                image.save(target / f"{wnid}_{number}.{suffix}", format="JPEG", quality=_QUALITY)
    return {
        "package": "scikit-learn",
        "version": importlib.metadata.version("scikit-learn"),
        "sha256": _SHA256,
        "split_seed": 0,
        "inverts": inverts,
        "side": _SIDE,
        "jpeg_quality": _QUALITY,
    }


def _file() -> Path:
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError("needs the package 'scikit-learn'", where="small data", hint="run `make setup`")
    path = Path(found.origin).parent / _FILE
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != _SHA256:
        raise DataError(
            f"sha256 {actual}, expected {_SHA256}",
            where=str(path),
            hint="another version of the package: install the one that set-up names",
        )
    return path


_REQUIRED_BYTES = 20_000_000

SMALL = {
    "digits": SmallData(_REQUIRED_BYTES, partial(write_raw, inverts=False)),
    "digits_inverted": SmallData(_REQUIRED_BYTES, partial(write_raw, inverts=True)),
}
"""By the name of the data set."""
