"""The public HDF5 files: one volume each, with k-space, reconstruction and the volume's largest value.

Only this module knows HDF5. Small data sets are written in the same form. Source of the layout: the fastMRI data set
(Zbontar et al. 2018, arXiv 1811.08839), emulated single-coil knee track.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from perfbench.errors import DataError
from perfbench.workloads.fastmri.params import Params

_KSPACE, _TARGET = "kspace", "reconstruction_esc"
_DAMAGED = "the file is damaged or not of the single-coil track: fetch it again"

_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, OverflowError)
"""What h5py raises on damaged bytes, by what they described: the file, a data set, its type or its size."""


class RawVolume(NamedTuple):
    """What is used of one file."""

    kspace: NDArray[np.complex64]
    """``[slices, rows, columns]``."""
    targets: NDArray[np.float32]
    """``[slices, n, n]``: magnitude of the fully sampled image."""
    maximum: float
    """Largest target value: the range of values in the metric."""


def read_volume(file: Path | io.BytesIO, params: Params, *, where: str) -> RawVolume:
    """Read one file.

    Raises:
        DataError: If it is no HDF5 file, truncated, or not what the workload needs: names ``where``.
    """
    try:
        with h5py.File(file, "r") as opened:
            _check_shapes(opened, params, where)
            volume = RawVolume(opened[_KSPACE][()], opened[_TARGET][()], _maximum(opened, where))
    except _UNREADABLE as problem:
        text = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        text = text.splitlines()[0]
        raise DataError(f"cannot be read as HDF5: {text}", where=where, hint=_DAMAGED) from None
    for name, values in ((_KSPACE, volume.kspace), (_TARGET, volume.targets)):
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
        if wrong.size:
            raise DataError(f"{name} of slice {wrong[0]} has values that are not finite", where=where, hint=_DAMAGED)
    return volume


def write_volume(
    path: Path, kspace: NDArray[np.complex64], targets: NDArray[np.float32], *, acquisition: str, patient_id: str
) -> None:
    """Write one file with the names, types and attributes of the public ones."""
    rows, columns = kspace.shape[1:]
    size = targets.shape[1]
    header = (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        f"<encodedSpace><matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize></encodedSpace>"
        f"<reconSpace><matrixSize><x>{size}</x><y>{size}</y><z>1</z></matrixSize></reconSpace>"
        f"<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{columns - 1}</maximum>"
        f"<center>{columns // 2}</center></kspace_encoding_step_1></encodingLimits>"
        "</encoding></ismrmrdHeader>"
    )
    with h5py.File(path, "w") as file:
        file[_KSPACE] = kspace
        file[_TARGET] = targets
        file["reconstruction_rss"] = targets
        file["ismrmrd_header"] = header.encode()
        file.attrs["max"] = float(targets.max())
        file.attrs["norm"] = float(np.linalg.norm(targets))
        file.attrs["acquisition"] = acquisition
        file.attrs["patient_id"] = patient_id


def _text(name: str | bytes) -> str:
    """Return the name of a data set; h5py gives bytes where it is no UTF-8."""
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


def _check_shapes(opened: Any, params: Params, where: str) -> None:  # noqa: ANN401 - h5py has no types
    size = params.image_size
    for name, kind in ((_KSPACE, "c"), (_TARGET, "f")):
        if name not in opened:
            found = ", ".join(sorted(map(_text, opened)))
            raise DataError(f"has no data set {name!r}, only {found}", where=where, hint=_DAMAGED)
        if not isinstance(opened[name], h5py.Dataset):
            raise DataError(f"{name} is no data set", where=where, hint=_DAMAGED)
        if opened[name].ndim != 3 or opened[name].dtype.kind != kind:  # noqa: PLR2004 - slices, rows, columns
            raise DataError(
                f"{name} has shape {opened[name].shape} and type {opened[name].dtype}; "
                f"three dimensions of {'complex' if kind == 'c' else 'real'} numbers needed",
                where=where,
                hint=_DAMAGED,
            )
    slices, rows, columns = opened[_KSPACE].shape
    if slices == 0 or rows != params.kspace_rows or columns < size:
        raise DataError(
            f"k-space is {slices} slices of {rows}x{columns}; "
            f"slices with {params.kspace_rows} rows and at least {size} columns needed",
            where=where,
            hint=_DAMAGED,
        )
    if opened[_TARGET].shape != (slices, size, size):
        raise DataError(
            f"{_TARGET} has shape {opened[_TARGET].shape}, {(slices, size, size)} needed", where=where, hint=_DAMAGED
        )


def _maximum(opened: Any, where: str) -> float:  # noqa: ANN401 - h5py has no types
    if "max" not in opened.attrs:
        raise DataError("has no attribute 'max': the metric needs it", where=where, hint=_DAMAGED)
    stored = np.asarray(opened.attrs["max"])
    if stored.size != 1 or stored.dtype.kind not in "iuf":
        raise DataError(
            f"attribute 'max' has shape {stored.shape} and type {stored.dtype}; one number needed",
            where=where,
            hint=_DAMAGED,
        )
    maximum = float(stored.item())
    if not 0 < maximum < float("inf"):
        raise DataError(f"attribute 'max' is {maximum}; a positive number needed", where=where, hint=_DAMAGED)
    return maximum
