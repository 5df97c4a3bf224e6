"""What every workload on labelled photographs sets about its data; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from perfbench.spec.base import Spec

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]. Source: torchvision's ImageNet recipes, as used by AlgoPerf."""


class ImageParams(Spec):
    """Classes, sizes, augmentation, counts."""

    num_classes: int = Field(ge=2)
    crop_side: int = Field(ge=8)
    """Pixels of the model's input."""
    resize_side: int = Field(ge=8)
    """Shorter side to which an evaluated image is resized before its centre is cut out."""
    area_range: tuple[float, float]
    """Least and largest share of the image that a training crop covers."""
    flip: bool
    """Mirror half of the training images."""
    eval_train_examples: int = Field(ge=1)
    loader_processes: int | None = Field(ge=0)
    """Processes that decode, per rank; 0 decodes in a thread of the rank, null shares the cores among the ranks."""
    expected_examples: dict[Literal["train", "validation", "test"], int]
    """Asserted against the prepared data."""
