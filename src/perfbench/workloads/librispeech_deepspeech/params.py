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
    """Even: half of it for each direction."""
    num_recurrent: int = Field(ge=1)
    num_feed_forward: int = Field(ge=1)
    activation: Literal["relu", "tanh"]
    """Of the convolutions and feed-forward layers."""
    residual: bool
    """Whether layers add to their input or replace it."""
    normalisation: Literal["batch", "layer"]
    """Before every layer. With ``layer`` there is no norm before the output."""

    @model_validator(mode="after")
    def _directions_are_equal(self) -> Params:
        if self.width % 2:
            msg = f"width {self.width} must be even"
            raise ValueError(msg)
        return self
