"""The prepared data: images and labels of each split as ``.npy`` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perfbench.data.images.idx import Images
from perfbench.results.files import atomic_file

FORMAT_VERSION = 1


def write_split(folder: Path, split: str, data: Images) -> list[Path]:
    """Write a prepared split; return its files."""
    paths = []
    for name, array in zip(Images._fields, data, strict=True):
        path = folder / f"{split}.{name}.npy"
        with atomic_file(path) as file:
            np.save(file, np.ascontiguousarray(array))
        paths.append(path)
    return paths


def stored_split(folder: Path, split: str) -> Images:
    """Load a prepared split; 47 MB at most."""
    return Images(*(np.load(folder / f"{split}.{name}.npy") for name in Images._fields))
