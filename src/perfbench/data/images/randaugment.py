"""RandAugment as the competition used it: fixed strongest magnitudes, 16 operations, each equally likely.

Differences from ``torchvision.transforms.v2.RandAugment``: no identity but with inversion, additive solarisation and
cut-out; no magnitude bins; grey fill. The operations themselves are torchvision's. Source: AlgoPerf imagenet_vit.
Lengths in pixels belong to images of 224 pixels and scale with the side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from perfbench.data.images.transforms import Draws

GREY = 128
REFERENCE_SIDE = 224
_SHEAR = 0.3
_TRANSLATE_PIXELS = 100
_ROTATE_DEGREES = 30.0
_FACTOR = 1.9
_POSTERIZE_BITS = 4
_ADDED = 110
_CUTOUT_PIXELS = 40

Operation = Callable[[Tensor, Draws], Tensor]


def rand_augment(image: Tensor, *, num_operations: int, draws: Draws) -> Tensor:
    """Apply operations to uint8 ``[3, side, side]``, drawn with replacement."""
    names = list(OPERATIONS)
    for _ in range(num_operations):
        image = OPERATIONS[names[draws.integer(len(names))]](image, draws)
    return image


def scaled(pixels: int, image: Tensor) -> int:
    """Return a length for this image's side."""
    return int(pixels * image.shape[-1] / REFERENCE_SIDE)


def _sign(draws: Draws) -> int:
    return 1 if draws.integer(2) else -1


def _affine(image: Tensor, *, translate: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Shear about the top left corner, or translate; nearest neighbour, grey where nothing was."""
    moved: Tensor = functional.affine(
        image,
        angle=0.0,
        translate=list(translate),
        scale=1.0,
        shear=[math.degrees(math.atan(part)) for part in shear],
        interpolation=InterpolationMode.NEAREST,
        fill=[GREY] * 3,
        center=[0, 0],
    )
    return moved


def _rotate(image: Tensor, draws: Draws) -> Tensor:
    angle = _sign(draws) * _ROTATE_DEGREES
    rotated: Tensor = functional.rotate(image, angle, interpolation=InterpolationMode.NEAREST, fill=[GREY] * 3)
    return rotated


def _solarize_add(image: Tensor, draws: Draws) -> Tensor:  # noqa: ARG001 - nothing is drawn
    brighter = (image.to(torch.int16) + _ADDED).clamp(0, 255).to(torch.uint8)
    return torch.where(image < GREY, brighter, image)


def _cutout(image: Tensor, draws: Draws) -> Tensor:
    """Paint a square grey, its end included; squares at the right and lower border are cut, at the others moved."""
    reach = scaled(_CUTOUT_PIXELS, image)
    height, width = image.shape[-2:]
    left = int(max(0, draws.uniform(0, width) - reach))
    top = int(max(0, draws.uniform(0, height) - reach))
    right, bottom = min(width, left + 2 * reach), min(height, top + 2 * reach)
    painted = image.clone()
    painted[..., top : bottom + 1, left : right + 1] = GREY
    return painted


OPERATIONS: dict[str, Operation] = {
    "ShearX": lambda image, draws: _affine(image, shear=(_sign(draws) * _SHEAR, 0.0)),
    "ShearY": lambda image, draws: _affine(image, shear=(0.0, _sign(draws) * _SHEAR)),
    "TranslateX": lambda image, draws: _affine(image, translate=(_sign(draws) * scaled(_TRANSLATE_PIXELS, image), 0)),
    "TranslateY": lambda image, draws: _affine(image, translate=(0, _sign(draws) * scaled(_TRANSLATE_PIXELS, image))),
    "Rotate": _rotate,
    "Brightness": lambda image, _: functional.adjust_brightness(image, _FACTOR),
    "Color": lambda image, _: functional.adjust_saturation(image, _FACTOR),
    "Contrast": lambda image, _: functional.adjust_contrast(image, _FACTOR),
    "Sharpness": lambda image, _: functional.adjust_sharpness(image, _FACTOR),
    "Posterize": lambda image, _: functional.posterize(image, _POSTERIZE_BITS),
    "Solarize": lambda image, _: image,  # its threshold is 256: nothing is as bright, a draw of it changes nothing
    "SolarizeAdd": _solarize_add,
    "AutoContrast": lambda image, _: functional.autocontrast(image),
    "Equalize": lambda image, _: functional.equalize(image),
    "Invert": lambda image, _: functional.invert(image),
    "Cutout": _cutout,
}
"""By name, at the strongest magnitude."""
