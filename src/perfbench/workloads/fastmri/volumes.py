"""Prepared volumes: one file each, one record a slice, read by slice number.

A record is the hybrid array (complex64 ``[n, columns]``) and then the target (float32 ``[n, n]``), little-endian: what
an example needs stands together, and half the size of the public files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from perfbench.results.files import atomic_file
from perfbench.spec.base import Spec

FORMAT_VERSION = 1


class VolumeFacts(Spec):
    """One prepared volume."""

    file: str
    """Relative to the data set's folder."""
    num_slices: int = Field(ge=1)
    num_columns: int = Field(ge=1)
    maximum: float = Field(gt=0)
    """Largest target value of the volume."""


class Record(NamedTuple):
    """One stored slice."""

    hybrid: NDArray[np.complex64]
    """``[n, columns]``: image space along rows, k-space along columns."""
    target: NDArray[np.float32]
    """``[n, n]``."""


def record_bytes(image_size: int, num_columns: int) -> int:
    """Return the size of one slice on disk."""
    return 8 * image_size * num_columns + 4 * image_size * image_size


def write_volume(path: Path, records: Iterable[Record]) -> None:
    """Write the slices of one volume, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        for record in records:
            file.write(np.ascontiguousarray(record.hybrid, dtype="<c8").data)
            file.write(np.ascontiguousarray(record.target, dtype="<f4").data)


class SliceReader:
    """Reads slices by their number in a sequence of volumes.

    Args:
        folder: Of the data set.
        volumes: In order of the slice numbers.
        image_size: Side of the targets, and rows of the hybrid arrays.
    """

    def __init__(self, folder: Path, volumes: Sequence[VolumeFacts], image_size: int) -> None:
        self._paths = [folder / volume.file for volume in volumes]
        self._volumes = list(volumes)
        self._ends = np.cumsum([volume.num_slices for volume in volumes])
        self._image_size = image_size
        self.num_slices = int(self._ends[-1])

    def volume_of(self, number: int) -> VolumeFacts:
        """Return the volume that a slice belongs to."""
        return self._volumes[self._index(number)]

    def read(self, number: int) -> Record:
        """Read one slice; safe to call from several threads."""
        index = self._index(number)
        volume, n = self._volumes[index], self._image_size
        within = number - int(self._ends[index] - volume.num_slices)
        size = record_bytes(n, volume.num_columns)
        with self._paths[index].open("rb", buffering=0) as file:
            file.seek(within * size)
            data = np.fromfile(file, dtype=np.uint8, count=size)
        cut = 8 * n * volume.num_columns
        return Record(
            data[:cut].view("<c8").reshape(n, volume.num_columns),
            data[cut:].view("<f4").reshape(n, n),
        )

    def _index(self, number: int) -> int:
        return int(np.searchsorted(self._ends, number, side="right"))
