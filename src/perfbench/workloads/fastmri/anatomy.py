"""Measured heads in the public form: slices of a volume in its three directions, with invented phase and noise."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfbench.data.preparation import Progress
from perfbench.errors import DataError
from perfbench.workloads.fastmri import raw
from perfbench.workloads.fastmri.acquisition import FloatArray, acquire
from perfbench.workloads.fastmri.params import Params

SEED = 0
_TRAIN_STACK, _HELD_OUT_STACK = 12, 8
"""Slices of a volume."""
_BRIGHT_SHARE = 0.08
"""A slice is used if so many of its pixels exceed a tenth of the brightest ones."""
_NUM_COLUMNS_OVER_SIZE = 74 / 64
_HEADER_BYTES = 348
_VALUE_TYPES: dict[int, np.dtype[np.uint8] | np.dtype[np.float32]] = {2: np.dtype(np.uint8), 16: np.dtype("<f4")}


class Slices(NamedTuple):
    """The usable slices of a head in one direction, each ``[n, n]``, brightest about 1."""

    patient_id: str
    images: list[FloatArray]


class Directions(NamedTuple):
    """A head, cut in each direction."""

    sagittal: Slices
    coronal: Slices
    axial: Slices


def cut(head: FloatArray, params: Params, *, patient_id: str) -> Directions:
    """Cut a head ``[x, y, z]`` into slices of ``params.image_size`` pixels a side."""
    return Directions(
        *(Slices(patient_id, _slices(np.moveaxis(head, axis, 0), params.image_size)) for axis in range(3))
    )


def write_volumes(folder: Path, params: Params, progress: Progress, *, train: list[Slices], held_out: Slices) -> None:
    """Write ``singlecoil_train`` and ``singlecoil_val``: volumes of 12 slices train, volumes of 8 are held out.

    Neighbouring volumes of the held-out slices go in turn to the first half, which validates, and to the second.
    """
    training = [volume for slices in train for volume in _volumes(slices, _TRAIN_STACK)]
    held = _volumes(held_out, _HELD_OUT_STACK)
    held = held[0::2] + held[1::2]
    for index, volume in enumerate(training + held):
        target_folder = folder / f"singlecoil_{'train' if index < len(training) else 'val'}"
        target_folder.mkdir(parents=True, exist_ok=True)
        kspace, targets = acquire(
            np.stack(volume.images),
            np.random.Generator(np.random.PCG64([SEED, index])),
            rows=params.kspace_rows,
            columns=round(params.image_size * _NUM_COLUMNS_OVER_SIZE),
        )
        path = target_folder / f"file{1000001 + index}.h5"
        raw.write_volume(path, kspace, targets, acquisition="AXT1", patient_id=volume.patient_id)
        progress("slicing heads", index + 1, len(training) + len(held))


def read_nifti(path: Path, *, hint: str) -> FloatArray:
    """Read a compressed NIfTI-1 volume of bytes or single precision, ``[x, y, z]``; its scale is not applied.

    Raises:
        DataError: If the file is damaged or of another type; with the hint.
    """
    try:
        return _volume(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as problem:
        raise DataError(f"cannot be read as NIfTI: {problem}", where=str(path), hint=hint) from None


def _volume(data: bytes) -> FloatArray:
    (header_bytes,) = struct.unpack_from("<i", data, 0)
    num_dimensions, *lengths = struct.unpack_from("<8h", data, 40)
    (value_type,) = struct.unpack_from("<h", data, 70)
    (offset,) = struct.unpack_from("<f", data, 108)
    if (header_bytes, num_dimensions) != (_HEADER_BYTES, 3) or value_type not in _VALUE_TYPES:
        msg = (
            f"header of {header_bytes} bytes, {num_dimensions} dimensions, values of type {value_type}; "
            f"{_HEADER_BYTES}, 3, and {' or '.join(map(str, _VALUE_TYPES))} needed"
        )
        raise ValueError(msg)
    shape = lengths[:3]
    values: NDArray[Any] = np.frombuffer(
        data, dtype=_VALUE_TYPES[value_type], offset=int(offset), count=int(np.prod(shape))
    )
    volume: FloatArray = values.reshape(shape, order="F").astype(np.float64)
    return volume


def _slices(stack: FloatArray, size: int) -> list[FloatArray]:
    """Return the usable slices at ``size`` pixels a side: the centre of their k-space, upright, brightest about 1."""
    brightest = float(np.percentile(stack, 99.5))
    usable = (stack > 0.1 * brightest).mean(axis=(1, 2)) > _BRIGHT_SHARE
    return [_coarser(np.rot90(image) / brightest, size) for image in stack[usable]]


def _coarser(image: FloatArray, size: int) -> FloatArray:
    """Return the image that a scan of lower resolution gives, in a square field of view."""
    side = max(image.shape)
    square = np.zeros((side, side))
    top, left = ((side - length) // 2 for length in image.shape)
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    kspace = np.fft.fftshift(np.fft.fft2(square))
    first = side // 2 - size // 2
    center = kspace[first : first + size, first : first + size]
    coarse: FloatArray = np.abs(np.fft.ifft2(np.fft.ifftshift(center))) * (size / side) ** 2
    return coarse


def _volumes(slices: Slices, length: int) -> list[Slices]:
    images = slices.images
    return [Slices(slices.patient_id, images[first : first + length]) for first in range(0, len(images), length)]
