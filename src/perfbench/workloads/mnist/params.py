"""Parameters of the family."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from perfbench.spec.base import Spec

HELD_OUT_FILES = ("validation.*", "test.*")
"""Patterns of prepared files that hold evaluation examples: a confined trainer cannot read them."""

PIXEL_MEAN = 0.1307
PIXEL_STD = 0.3081
"""Of pixels in [0, 1]. Source: AlgoPerf mnist, which applies them to bytes 0 to 255; here they are divided first."""


class Params(Spec):
    """Model and data at one scale."""

    hidden_width: int = Field(ge=1)
    eval_train_examples: int = Field(ge=1)
    expected_examples: dict[Literal["train", "validation", "test"], int]
    """Asserted against the prepared data; training and validation images share the public training file."""
