"""Packs: encoded images one after another in a few large files, and an index of where each one is.

A million small files make every copy, check and first read of a data set slow, on network disks above all. One pack
holds the images of one class folder (or a thousand of a flat archive); its bytes are those of the public files.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from perfbench.results.files import atomic_file

FORMAT_VERSION = 1
NAME_BYTES = 64
INDEX_TYPE = np.dtype(
    [("pack", "<u4"), ("offset", "<u8"), ("size", "<u4"), ("label", "<u4"), ("name", f"S{NAME_BYTES}")]
)

Index = NDArray[np.void]


def write_pack(path: Path, images: Iterable[tuple[str, int, bytes]]) -> Index:
    """Write ``(file name, label, encoded bytes)`` as one pack, atomically; return its index (pack number 0)."""
    rows: list[tuple[int, int, int, int, bytes]] = []
    with atomic_file(path) as file:
        for name, label, encoded in images:
            rows.append((0, file.tell(), len(encoded), label, name.encode()[-NAME_BYTES:]))
            file.write(encoded)
    return np.array(rows, dtype=INDEX_TYPE)


def write_index(path: Path, index: Index) -> None:
    """Write an index, atomically."""
    with atomic_file(path) as file:
        np.save(file, index)


class PackReader:
    """Reads encoded images by number. Safe to share among threads; each process opens the packs itself.

    Packs stay open as far as the process may hold files: the public training part has as many packs as classes, and
    many machines allow 1,024 files.

    Args:
        folder: The prepared data set.
        split: Whose images.
        packs: Names of the split's packs, in the order of the index's pack numbers.
    """

    def __init__(self, folder: Path, split: str, packs: Sequence[str]) -> None:
        self._folder = folder
        self._packs = list(packs)
        self._index_path = folder / index_name(split)
        self._index: Index = np.load(self._index_path, mmap_mode="r")
        self._opened: dict[int, BinaryIO] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._index)

    def __getstate__(self) -> dict[str, object]:
        """Leave open files behind when sent to another process."""
        return self.__dict__ | {"_opened": {}, "_index": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Open them again."""
        self.__dict__.update(state)
        self._index = np.load(self._index_path, mmap_mode="r")

    def read(self, number: int) -> bytes:
        """Return the encoded bytes of an image."""
        row = self._index[number]
        pack, size, offset = int(row["pack"]), int(row["size"]), int(row["offset"])
        opened = self._opened.get(pack)
        if opened is None and len(self._opened) >= most_open():
            with self._open(pack) as file:
                return os.pread(file.fileno(), size, offset)
        if opened is None:
            opened = self._opened.setdefault(pack, self._open(pack))
        return os.pread(opened.fileno(), size, offset)

    def label(self, number: int) -> int:
        """Return the class of an image."""
        return int(self._index[number]["label"])

    def name(self, number: int) -> str:
        """Return where an image is and which public file it was."""
        row = self._index[number]
        return f"{self._folder / self._packs[int(row['pack'])]}, {row['name'].decode(errors='replace')}"

    def _open(self, pack: int) -> BinaryIO:
        return (self._folder / self._packs[pack]).open("rb")


def most_open() -> int:
    """Return how many packs of a split may stay open: half of the files that this process may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit // 2


def index_name(split: str) -> str:
    """Return the file name of a split's index."""
    return f"{split}.index.npy"
