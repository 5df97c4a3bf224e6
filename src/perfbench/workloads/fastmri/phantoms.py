"""Generated volumes in the public form: textured ellipsoids with coil phase, cut into slices, transformed, with noise.

Edges, textures and support are predictable from the aliased image; the noise in the target is not, so the similarity
stays clearly below 1. Everything follows from one seed. Source of the recipe: AlgoPerf fastMRI specification, 7.2.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from perfbench.data.preparation import PrepareRequest, Progress
from perfbench.workloads.fastmri import raw
from perfbench.workloads.fastmri.acquisition import FloatArray, acquire, grid
from perfbench.workloads.fastmri.params import Params

NAME = "phantoms"
_SEED = 0
_NUM_COLUMNS_OVER_SIZE = (74 / 64, 74 / 64, 80 / 64)
"""Two widths in turn, so that masks of both are exercised."""
_SLICES_PER_VOLUME = 12
_SLICES_OF_SHORT_VOLUME = 7
"""The last volume of validation: its last batch is partial."""
_BODY_INTENSITY = 0.12


class Layout(NamedTuple):
    """How many volumes a small data set has."""

    num_train: int
    num_validation: int
    num_test: int
    slices_per_volume: int = _SLICES_PER_VOLUME


def write_raw(folder: Path, params: Params, request: PrepareRequest) -> dict[str, JsonValue]:
    """Write the phantoms as ``singlecoil_train`` and ``singlecoil_val``; return where they come from."""
    counts = params.expected_volumes
    layout = Layout(counts["train"], counts["validation"], counts["test"])
    write_volumes(folder, params, request.progress, layout, seed=_SEED)
    return {"generator": NAME, "seed": _SEED}


def write_volumes(folder: Path, params: Params, progress: Progress, layout: Layout, *, seed: int) -> None:
    """Write any number of phantoms."""
    total = layout.num_train + layout.num_validation + layout.num_test
    last_of_validation = layout.num_train + layout.num_validation - 1
    for index in range(total):
        part = "train" if index < layout.num_train else "val"
        path = folder / f"singlecoil_{part}" / f"file{1000001 + index}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = np.random.Generator(np.random.PCG64([seed, index]))
        slices = _SLICES_OF_SHORT_VOLUME if index == last_of_validation else layout.slices_per_volume
        columns = round(params.image_size * _NUM_COLUMNS_OVER_SIZE[index % len(_NUM_COLUMNS_OVER_SIZE)])
        kspace, targets = acquire(
            _objects(generator, slices, params.image_size),
            generator,
            rows=params.kspace_rows,
            columns=columns,
        )
        raw.write_volume(path, kspace, targets, acquisition="CORPD_FBK", patient_id=f"phantom-{index:04d}")
        progress("drawing phantoms", index + 1, total)


def _objects(generator: np.random.Generator, num_slices: int, size: int) -> FloatArray:
    """Return intensities ``[slices, n, n]`` of one body: later ellipsoids overwrite earlier ones."""
    y, x = grid(size)
    z = np.linspace(-0.5, 0.5, num_slices)[:, None, None]
    body = (x / generator.uniform(0.8, 0.95)) ** 2 + (y / generator.uniform(0.7, 0.95)) ** 2 + 0 * z
    intensity = np.where(body < 1, _BODY_INTENSITY, 0.0)
    for _ in range(generator.integers(8, 16)):
        center_x, center_y, center_z = generator.uniform(-0.55, 0.55, size=3)
        radius_x, radius_y, radius_z = generator.uniform((0.12, 0.12, 0.25), (0.5, 0.5, 0.9))
        turn, direction = generator.uniform(0, np.pi, size=2)
        along = (x - center_x) * np.cos(turn) + (y - center_y) * np.sin(turn)
        across = (y - center_y) * np.cos(turn) - (x - center_x) * np.sin(turn)
        inside = (along / radius_x) ** 2 + (across / radius_y) ** 2 + ((z - center_z) / radius_z) ** 2 < 1
        cycles, start = generator.uniform(4, 14), generator.uniform(0, 2 * np.pi)
        wave = np.sin(np.pi * cycles * (x * np.cos(direction) + y * np.sin(direction)) + start)
        intensity = np.where(inside, generator.uniform(0.15, 1) * (1 + 0.25 * wave), intensity)
    tilt_x, tilt_y = generator.uniform(-0.3, 0.3, size=2)
    shaded: FloatArray = intensity * (1 + tilt_x * x + tilt_y * y)
    return shaded
