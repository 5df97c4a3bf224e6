"""Parameters of the family: variants differ in these and in nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from perfbench.spec.base import Spec

HELD_OUT_FILES = ("val/*",)
"""Patterns of prepared files that hold evaluation examples: a confined trainer cannot read them."""

DATA_SPLITS = ("train", "validation", "test")


class Params(Spec):
    """Model and data of one variant at one scale."""

    channels: int = Field(ge=1)
    """Feature maps of the first level; each level below has twice as many."""
    num_pools: int = Field(ge=1)
    """Levels below the first."""
    activation: Literal["leaky_relu", "tanh"]
    norm: Literal["instance", "layer"]
    """Of convolution blocks; up-sampling blocks always have instance norm."""
    dropout_rate: float = Field(ge=0, lt=1)
    """Of whole feature maps, in convolution blocks."""
    image_size: int = Field(ge=2)
    """Side of input and target, in pixels."""
    kspace_rows: int = Field(ge=2)
    """Read-out samples of a raw slice; its number of columns may differ from volume to volume."""
    acceleration: int = Field(ge=2)
    """One of so many columns is kept, on average."""
    center_fraction: float = Field(gt=0, lt=1)
    """Share of the columns, around the centre, that is always kept."""
    eval_train_examples: int = Field(ge=1)
    expected_examples: dict[Literal["train", "validation", "test"], int]
    """Slices; asserted against the prepared data."""
    expected_volumes: dict[Literal["train", "validation", "test"], int]
    """Files. The first ``validation`` of the validation folder, by name, validate and the rest test."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Params:
        smallest = 2 ** (self.num_pools + 1)
        if self.image_size < smallest:
            msg = f"{self.num_pools} pools need images of at least {smallest} pixels a side, not {self.image_size}"
            raise ValueError(msg)
        if self.kspace_rows < self.image_size:
            msg = f"kspace_rows ({self.kspace_rows}) must not be fewer than image_size ({self.image_size})"
            raise ValueError(msg)
        if self.center_fraction * self.acceleration >= 1:
            msg = f"the centre alone ({self.center_fraction}) exceeds the share of columns kept, 1/{self.acceleration}"
            raise ValueError(msg)
        for split in DATA_SPLITS:
            if split not in self.expected_examples or split not in self.expected_volumes:
                msg = f"expected_examples and expected_volumes need {split!r}"
                raise ValueError(msg)
        return self
