"""What a scanner would record of given objects: smooth phase, receiver noise, over-sampled k-space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NOISE = 0.03
"""Standard deviation of the complex noise where the objects have intensity 1."""
_SCALE = 5e-4
"""Image magnitudes are as small as the public ones."""

FloatArray = NDArray[np.float64]


def acquire(
    objects: FloatArray, generator: np.random.Generator, *, rows: int, columns: int
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Image a stack of objects with one smooth phase and noise.

    The phase and the noise are what makes the problem honest: without a phase, half of k-space gives away the other
    half, and a target without noise flatters every method.

    Args:
        objects: Intensities ``[slices, n, n]`` of about 0 to 1.
        generator: Draws phase, noise and scale.
        rows: Of k-space, at least ``n``: read-out over-sampling.
        columns: Of k-space, at least ``n``.

    Returns:
        K-space ``[slices, rows, columns]`` and the magnitude of its inverse, cropped to ``[slices, n, n]``.
    """
    slices, size = objects.shape[:2]
    top, left = (rows - size) // 2, (columns - size) // 2
    inside = (slice(None), slice(top, top + size), slice(left, left + size))
    y, x = grid(size)
    slope_x, slope_y = generator.uniform(-1.5, 1.5, size=2)
    phase = generator.uniform(-np.pi, np.pi) + slope_x * x + slope_y * y
    noise = generator.normal(scale=_NOISE / np.sqrt(2), size=(2, slices, rows, columns))
    canvas = noise[0] + 1j * noise[1]
    canvas[inside] += objects * np.exp(1j * phase)
    canvas *= _SCALE * generator.uniform(0.5, 1.5)
    shifted = np.fft.ifftshift(canvas, axes=(1, 2))
    kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(1, 2)).astype(np.complex64)
    return kspace, np.abs(canvas[inside]).astype(np.float32)


def grid(size: int) -> tuple[FloatArray, FloatArray]:
    """Return coordinates in [-1, 1]: ``y`` of shape ``[n, 1]`` and ``x`` of shape ``[1, n]``."""
    line = np.linspace(-1, 1, size)
    return line[:, None], line[None, :]
