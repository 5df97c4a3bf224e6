"""The public IDX files of small grey images: a big-endian header, then bytes, gzipped; four files make a data set."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfbench.data.source_files import is_there, reading, unpacked
from perfbench.errors import DataError

IMAGE_SIDE = 28
NUM_CLASSES = 10
TRAIN_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST_FILES = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
IMAGES_MAGIC = 2051
LABELS_MAGIC = 2049
_MOST_BYTES = 1 << 30

Bytes = NDArray[np.uint8]


class Images(NamedTuple):
    """Images uint8 ``[n, 28, 28]`` and their labels uint8 ``[n]``."""

    images: Bytes
    labels: Bytes


def write_idx(folder: Path, names: tuple[str, str], data: Images) -> None:
    """Write images and labels as two files, named as the public ones; the same bytes every time."""
    image_header = struct.pack(">4i", IMAGES_MAGIC, len(data.images), IMAGE_SIDE, IMAGE_SIDE)
    label_header = struct.pack(">2i", LABELS_MAGIC, len(data.labels))
    contents = (image_header + data.images.tobytes(), label_header + data.labels.tobytes())
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(gzip.compress(content, compresslevel=1, mtime=0))


def read_idx(images: Path, labels: Path) -> Images:
    """Read two public files.

    Raises:
        DataError: If one is missing, damaged, or not what its header says; names the file.
    """
    image_bytes = _read(images, IMAGES_MAGIC, num_dimensions=3)
    label_bytes = _read(labels, LABELS_MAGIC, num_dimensions=1)
    if image_bytes.shape[1:] != (IMAGE_SIDE, IMAGE_SIDE):
        raise DataError(
            f"images of {image_bytes.shape[1]} x {image_bytes.shape[2]} pixels instead of {IMAGE_SIDE} x {IMAGE_SIDE}",
            where=str(images),
        )
    if len(image_bytes) != len(label_bytes):
        raise DataError(f"{len(label_bytes)} labels for {len(image_bytes)} images", where=str(labels))
    if len(label_bytes) and label_bytes.max() >= NUM_CLASSES:
        raise DataError(f"label {label_bytes.max()} is none of 0 to {NUM_CLASSES - 1}", where=str(labels))
    return Images(image_bytes, label_bytes)


def _read(path: Path, magic: int, *, num_dimensions: int) -> Bytes:
    if not is_there(path):
        raise DataError("the file is missing", where=str(path), hint="the folder needs all four public files")
    with unpacked(path) as file, reading(path):
        content = file.read(_MOST_BYTES)
    header_bytes = 4 * (1 + num_dimensions)
    header = struct.unpack(f">{1 + num_dimensions}i", content[:header_bytes].ljust(header_bytes, b"\0"))
    if header[0] != magic:
        raise DataError(f"starts with {header[0]} instead of {magic}: no such IDX file", where=str(path))
    shape = header[1:]
    expected_bytes = header_bytes + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected_bytes:
        raise DataError(
            f"{len(content)} bytes unpacked, its header says {expected_bytes}", where=str(path), hint="fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(shape)
