"""Parameters of the family: variants differ in these and in nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from perfbench.data.images.params import ImageParams

HELD_OUT_FILES = ("validation.*", "test.*")
"""Patterns of prepared files that hold evaluation examples: a confined trainer cannot read them."""


class Params(ImageParams):
    """Model and data of one variant at one scale."""

    blocks: tuple[int, int, int, int]
    """Bottleneck blocks of each stage."""
    base_width: int = Field(ge=1)
    """Channels of the stem and of the first stage's bottlenecks; every stage doubles it."""
    activation: Literal["relu", "silu", "gelu_tanh"]
    last_norm_scale: float
    """Where the scale of the last batch norm of every residual branch starts."""
