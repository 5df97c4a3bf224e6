"""Parameters of the family: variants differ in these and in nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from perfbench.data.speech.params import SpeechParams

HELD_OUT_FILES = ("dev-*", "test-*", "validation.*", "test.*")
"""Patterns of prepared files that hold evaluation examples: a confined trainer cannot read them."""


class Params(SpeechParams):
    """Data and model of one variant at one scale."""

    width: int = Field(ge=2)
    num_blocks: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    feed_forward_expansion: int = Field(ge=1)
    kernel_frames: int = Field(ge=1)
    """Of the depthwise convolution; odd."""
    attention_temperature: float = Field(gt=0)
    """Multiplies the output of attention, not its logits."""
    block_layer_norm: bool
    """Whether every block ends with a layer norm."""
    activation: Literal["silu", "gelu"]

    @model_validator(mode="after")
    def _shapes_fit(self) -> Params:
        if self.width % self.num_heads or self.width % 2:
            msg = f"width {self.width} must be even and a multiple of num_heads {self.num_heads}"
            raise ValueError(msg)
        if self.kernel_frames % 2 == 0:
            msg = f"kernel_frames {self.kernel_frames} must be odd"
            raise ValueError(msg)
        return self
