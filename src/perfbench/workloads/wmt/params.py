"""Parameters of the family: variants differ in these and in nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from perfbench.spec.base import Spec

HELD_OUT_FILES = ("newstest*",)
"""Patterns of prepared files that hold evaluation examples: a confined trainer cannot read them."""

UNKNOWN_ID = 0
EOS_ID = 2
START_ID = 0
"""What the decoder reads before the first target token: as published, the id of the unknown piece."""

_MAX_STORED_ID = 1 << 16


class Params(Spec):
    """Model and data of one variant at one scale."""

    vocab_size: int = Field(ge=8, le=_MAX_STORED_ID)
    tokenizer_sample_bytes: int = Field(ge=1)
    """Training text of the tokenizer: pairs are drawn until they hold this many bytes, newlines counted."""
    row_length: int = Field(ge=4)
    """Tokens of a row on each side, and positions that a decoded sentence may take."""
    batching: Literal["packed", "padded"]
    """Several pairs in a row (as published), or one."""
    as_published: bool
    """Packed rows shifted without regard to sentences and flushed every 256 pairs; hypotheses without EOS cut short."""
    width: int = Field(ge=4)
    num_heads: int = Field(ge=1)
    feed_forward_width: int = Field(ge=1)
    num_layers: int = Field(ge=1)
    """Of the encoder, and of the decoder."""
    norm: Literal["pre", "post"]
    """Whether layer norms stand before each sub-layer (and at the ends of the stacks) or after the addition."""
    attention_temp: float = Field(gt=0)
    """Multiplies the queries."""
    feed_forward: Literal["relu", "glu_tanh"]
    dropout_rate: float = Field(ge=0, lt=1)
    beam_size: int = Field(ge=1)
    length_penalty: float = Field(ge=0)
    """Exponent of ``((5 + length) / 6)``, by which a finished sentence's log-probability is divided."""
    decodes: bool
    """Whether evaluation translates by beam search and gives BLEU; without, it gives loss and perplexity only."""
    eval_train_examples: int = Field(ge=1)
    expected_examples: dict[Literal["train", "validation", "test"], int]
    """Asserted against the prepared data."""

    @model_validator(mode="after")
    def _fits_together(self) -> Params:
        if self.width % 2 or self.width % self.num_heads:
            msg = f"width {self.width} must be even and divisible by num_heads ({self.num_heads})"
            raise ValueError(msg)
        if self.as_published and self.batching != "packed":
            msg = "as_published needs batching=packed: the published runs packed"
            raise ValueError(msg)
        return self
