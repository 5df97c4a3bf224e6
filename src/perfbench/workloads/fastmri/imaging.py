"""From k-space to what the network sees. NumPy, one slice at a time, so that a batch's size changes no bit.

The mask acts on columns only, so the inverse transform along the rows and the cropping of rows are done once, when the
data is prepared: the *hybrid* array. Shape suffixes: r k-space rows, c k-space columns, n side of the image.

Source: AlgoPerf fastMRI specification, section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex64]
Float = NDArray[np.float32]

CLIP = 6.0
"""Inputs and targets are cut at so many standard deviations, as published."""


class Example(NamedTuple):
    """One slice as the network sees it."""

    inputs: Float
    """``[n, n]``: zero-filled magnitude image, standardised and clipped."""
    targets: Float
    """``[n, n]``: fully sampled magnitude image, with the input's mean and deviation."""
    mean: np.float32
    """Of the zero-filled image; in the raw data's unit."""
    std: np.float32
    """Of the zero-filled image over its pixels, population form; no epsilon."""


def hybrid_of(kspace_rc: Complex, image_size: int) -> Complex:
    """Return the centre rows ``[n, c]`` of the centred orthonormal inverse transform along the rows."""
    return _centered(_inverse(kspace_rc, axis=-2), image_size, axis=-2)


def zero_filled(hybrid_nc: Complex, kept: NDArray[np.bool_], image_size: int) -> Float:
    """Return the magnitude image ``[n, n]`` that the kept columns give."""
    image = _centered(_inverse(hybrid_nc * kept, axis=-1), image_size, axis=-1)
    magnitude: Float = np.abs(image)
    return magnitude


def example_of(image: Float, target: Float) -> Example:
    """Standardise a zero-filled image and its target with the statistics of the image."""
    mean = image.mean(dtype=np.float64).astype(np.float32)
    std = image.std(dtype=np.float64).astype(np.float32)
    return Example(_standardised(image, mean, std), _standardised(target, mean, std), mean, std)


def _standardised(image: Float, mean: np.float32, std: np.float32) -> Float:
    standardised: Float = np.clip((image - mean) / std, np.float32(-CLIP), np.float32(CLIP))
    return standardised


def _inverse(values: Complex, *, axis: int) -> Complex:
    """Return the centred orthonormal inverse transform along one axis."""
    shifted = np.fft.ifftshift(values, axes=axis)
    return np.fft.fftshift(np.fft.ifft(shifted, axis=axis, norm="ortho"), axes=axis).astype(np.complex64, copy=False)


def _centered(values: Complex, size: int, *, axis: int) -> Complex:
    first = (values.shape[axis] - size) // 2
    return np.take(values, range(first, first + size), axis=axis)
