"""Parameters of the family: variants differ in these and in nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from perfbench.data.images.params import ImageParams

HELD_OUT_FILES = ("validation.*", "test.*")
"""Patterns of prepared files that hold evaluation examples: a confined trainer cannot read them."""


class Params(ImageParams):
    """Model, augmentation and data of one variant at one scale."""

    patch_side: int = Field(ge=1)
    """Pixels of a square patch, which is one token; divides ``crop_side``."""
    width: int = Field(ge=4)
    """Of a token; a multiple of 4 (sines and cosines of two coordinates) and of ``num_heads``."""
    num_blocks: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    mlp_width: int = Field(ge=1)
    mlp: Literal["plain", "glu"]
    """Whether the hidden layer is multiplied by a linear function of itself."""
    norm: Literal["pre", "post"]
    """A layer norm before each part of a block and at the end of the encoder, or after each residual sum only."""
    pooling: Literal["mean", "attention"]
    """How tokens become one vector; ``attention`` is a learned query."""
    dropout_rate: float = Field(ge=0, lt=1)
    """At the start; a submission may set another."""
    rand_augment_operations: int = Field(ge=0)
    """Per training image; their lengths scale with ``crop_side`` from 224 pixels."""
    mixup_alpha: float = Field(ge=0)
    """Of the Beta distribution of mixing weights; 0 is no mixup."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> Params:
        if self.crop_side % self.patch_side:
            msg = f"crop_side {self.crop_side} must be a multiple of patch_side {self.patch_side}"
            raise ValueError(msg)
        if self.width % self.num_heads or self.width % 4:
            msg = f"width {self.width} must be a multiple of 4 and of num_heads {self.num_heads}"
            raise ValueError(msg)
        return self
