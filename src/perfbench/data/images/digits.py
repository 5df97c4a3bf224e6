"""Small real images in class folders: 1,797 handwritten digits of 8 x 8 pixels from the package ``scikit-learn``.

They are the UCI test set (13 writers; the same writers stand in all three parts), enlarged to 40 x 40 and encoded as
JPEG. Validation and test take 30 images of each class each (a fixed permutation), the rest trains. The folders of the
test set are named by integers, as in ImageNet-v2, so that its label rule is used.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import JsonValue

from perfbench.data.images.packing import SmallData
from perfbench.data.preparation import Progress
from perfbench.errors import DataError

NAME = "digits"
COUNTS = {"train": 1197, "validation": 300, "test": 300}
_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
_FILE = "datasets/data/digits.csv.gz"
_HELD_OUT_PER_CLASS = 30
_NUM_CLASSES = 10
_SIDE = 40
_QUALITY = 95


def write_raw(folder: Path, progress: Progress) -> dict[str, JsonValue]:
    """Write ``train|val/n0000000<c>/*.JPEG`` and ``test/<c>/*.jpeg``.

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
            for number in part:
                pixels = np.rint(table[number, :-1] * 255 / 16).astype(np.uint8).reshape(8, 8)
                image = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).convert("RGB")
                image.save(target / f"{wnid}_{number}.{suffix}", format="JPEG", quality=_QUALITY)
    return {
        "package": "scikit-learn",
        "version": importlib.metadata.version("scikit-learn"),
        "sha256": _SHA256,
        "split_seed": 0,
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


SMALL = {NAME: SmallData(required_bytes=20_000_000, write_raw=write_raw)}
"""By the name of the data set."""
