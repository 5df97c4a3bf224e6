"""Small grey images as class folders of JPEG, in the layout of the public photographs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 40
"""Pixels to which images are enlarged, so that random crops make sense."""
QUALITY = 95

NumberedImage = tuple[int, NDArray[np.uint8]]
"""A number for the file's name, and bytes ``[side, side]``."""


def write_class(
    folder: Path,
    label: int,
    parts: Mapping[Literal["train", "val", "test"], Iterable[NumberedImage]],
    *,
    inverts: bool = False,
) -> None:
    """Write the images of a class as ``train|val/n0000000<label>/*.JPEG`` and ``test/<label>/*.jpeg``.

    The folders of the test set are named by integers, as in ImageNet-v2, so that its label rule is used.

    Args:
        folder: Gets the three parts.
        label: Of the class.
        parts: Light on dark.
        inverts: Whether every second image of a part becomes dark on light: no linear model then knows the class.
    """
    wnid = f"n{label:08d}"
    for part, images in parts.items():
        name, suffix = (str(label), "jpeg") if part == "test" else (wnid, "JPEG")
        target = folder / part / name
        target.mkdir(parents=True)
        for place, (number, pixels) in enumerate(images):
            shown = 255 - pixels if inverts and place % 2 else pixels
            image = Image.fromarray(shown).resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")
            image.save(target / f"{wnid}_{number}.{suffix}", format="JPEG", quality=QUALITY)
