"""Parameters of the family: variants differ in these and in nothing else."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from typing import Literal

from pydantic import Field, model_validator

from perfbench.spec.base import Spec

HELD_OUT_FILES = ("day_23_*",)
"""Patterns of prepared files that hold evaluation examples: a confined trainer cannot read them."""

NUM_INTEGERS = 13
NUM_CATEGORICALS = 26

BUCKET_COUNTS = (
    39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546, 403346, 10,
    2208, 11938, 155, 4, 976, 14, 39979771, 25641295, 39664984, 585935, 12972, 108, 36,
)  # fmt: skip
"""Hash buckets of each categorical column. Source: Google's TPU DLRM tutorial, as used by AlgoPerf."""


class IdRounding(StrEnum):
    """What happens to a bucket number before it is reduced to a table row."""

    EXACT = "exact"
    ALGOPERF = "algoperf"
    """Rounded to float32 first, as the predecessor's pipeline did: ids above 2**24 lose one or two low bits."""


class Params(Spec):
    """Model and data of one variant at one scale."""

    table_rows: int = Field(ge=1)
    embedding_dim: int = Field(ge=1)
    embedding: Literal["torch", "torchrec"] = "torch"
    """Whose table and first layers: equal in numbers, docs/adr/0005. Records of before the choice have none."""
    embedding_init: Literal["inverse_sqrt_rows", "one"]
    """Upper end of the uniform initialisation of the table: 1/sqrt(rows), or 1."""
    layers: Literal["interaction", "residual"]
    bottom_widths: tuple[int, ...] = Field(min_length=1)
    top_widths: tuple[int, ...] = Field(min_length=2)
    """Hidden widths; the output layer of width 1 follows."""
    layer_norm: bool
    dropout_rate: float = Field(ge=0, lt=1)
    id_rounding: IdRounding
    order: Literal["files", "blocks"]
    """What training shuffles: files with their rows in sequence (as published), or blocks of rows."""
    block_rows: int = Field(ge=1)
    """Used by ``order: blocks``."""
    eval_train_examples: int = Field(ge=1)
    expected_examples: dict[Literal["train", "validation", "test"], int]
    """Asserted against the prepared data."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Params:
        if self.layers == "interaction" and self.bottom_widths[-1] != self.embedding_dim:
            msg = (
                f"the interaction needs the last bottom width ({self.bottom_widths[-1]}) "
                f"to equal embedding_dim ({self.embedding_dim})"
            )
            raise ValueError(msg)
        if self.layers == "residual" and len({*self.bottom_widths}) + len({*self.top_widths}) > 2:  # noqa: PLR2004
            msg = "residual layers need equal widths within bottom_widths and within top_widths"
            raise ValueError(msg)
        if self.embedding == "torchrec" and find_spec("torchrec") is None:
            msg = "no torchrec here: pip install 'perfbench[recommendation]', then pip install --no-deps torchrec"
            raise ValueError(msg)
        return self
