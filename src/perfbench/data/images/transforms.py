"""From encoded bytes to the uint8 tensor that a model is given; every random choice comes from a given generator.

Decoding is torchcodec's, resizing torchvision's on uint8 tensors (at most one grey level from PIL). Random choices
follow torchvision's ``RandomResizedCrop`` but draw from a generator of the single image, so that an example looks the
same for any number of processes and ranks.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torchcodec.decoders import decode_image  # type: ignore[attr-defined]  # exported without saying so
from torchvision.transforms.v2 import functional

from perfbench.data.images.orientation import JPEG_SIGNATURE, PNG_SIGNATURE, as_stored
from perfbench.data.images.params import PIXEL_MEAN, PIXEL_STD

_PNG_DEPTH = 24
"""Where a PNG says how many bits a sample has."""
ASPECT_RANGE = (3 / 4, 4 / 3)
_NUM_TRIES = 10

Box = tuple[int, int, int, int]
"""Top, left, height, width."""


class Draws(Protocol):
    """Where random choices come from."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number between two bounds."""
        ...

    def integer(self, bound: int) -> int:
        """Return one of ``0 .. bound - 1``."""
        ...


class SeededDraws:
    """Random choices of one use of one image: a pure function of the numbers given."""

    def __init__(self, *numbers: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(numbers))

    def uniform(self, low: float, high: float) -> float:
        """Return a number between two bounds."""
        return float(self._generator.uniform(low, high))

    def integer(self, bound: int) -> int:
        """Return one of ``0 .. bound - 1``."""
        return int(self._generator.integers(bound))


def decoded(encoded: bytes) -> Tensor:
    """Decode JPEG or PNG, grey, RGB or CMYK, to uint8 ``[3, height, width]``, equal to what PIL gives.

    Pixels are taken as they are stored: an EXIF orientation is ignored. Of 16-bit samples the upper byte counts.

    Raises:
        RuntimeError: If the image is damaged.
        ValueError: If the bytes are neither JPEG nor PNG.
    """
    is_png = encoded.startswith(PNG_SIGNATURE)
    if not is_png and not encoded.startswith(JPEG_SIGNATURE):
        msg = "neither JPEG nor PNG"  # torchcodec would read more, some of it as several images
        raise ValueError(msg)
    # A writable copy: given bytes, torchcodec would change the filters for warnings, which all threads share.
    content = torch.frombuffer(as_stored(encoded), dtype=torch.uint8)
    if is_png and encoded[_PNG_DEPTH : _PNG_DEPTH + 1] == b"\x10":
        deep = decode_image(content, mode="RGB", output_dtype=torch.uint16)
        return (deep.to(torch.int32) >> 8).to(torch.uint8)  # torchcodec rounds, PIL does not
    return decode_image(content, mode="RGB")


def random_crop_box(height: int, width: int, area_range: tuple[float, float], draws: Draws) -> Box:
    """Draw a box whose share of the area and logarithm of the aspect are uniform; the centre after ten misses."""
    low, high = (math.log(aspect) for aspect in ASPECT_RANGE)
    for _ in range(_NUM_TRIES):
        area = height * width * draws.uniform(*area_range)
        aspect = math.exp(draws.uniform(low, high))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = draws.integer(height - box_height + 1)
            return top, draws.integer(width - box_width + 1), box_height, box_width
    return _central_box(height, width)


def _central_box(height: int, width: int) -> Box:
    """Return the largest box in the centre whose aspect is allowed."""
    box_height, box_width = height, width
    if width / height < ASPECT_RANGE[0]:
        box_height = round(width / ASPECT_RANGE[0])
    elif width / height > ASPECT_RANGE[1]:
        box_width = round(height * ASPECT_RANGE[1])
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def train_view(image: Tensor, *, crop_side: int, area_range: tuple[float, float], flip: bool, draws: Draws) -> Tensor:
    """Return a random part of an image, resized to ``[3, side, side]``, mirrored with probability one half."""
    box = random_crop_box(image.shape[1], image.shape[2], area_range, draws)
    view: Tensor = functional.resized_crop(image, *box, size=[crop_side, crop_side], antialias=True)
    if flip and draws.uniform(0, 1) < 0.5:  # noqa: PLR2004
        view = functional.horizontal_flip(view)
    return view


def eval_view(image: Tensor, *, resize_side: int, crop_side: int) -> Tensor:
    """Return the centre ``[3, crop, crop]`` of an image whose shorter side was resized."""
    resized = functional.resize(image, [resize_side], antialias=True)
    centre: Tensor = functional.center_crop(resized, [crop_side, crop_side])
    return centre


def normalised(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Map bytes ``[b, 3, h, w]`` to pixels of mean 0 and deviation 1 over ImageNet, by colour; runs on the device."""
    mean = torch.tensor(PIXEL_MEAN, dtype=dtype, device=images.device).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD, dtype=dtype, device=images.device).view(3, 1, 1)
    return (images.to(dtype) / 255 - mean) / std
