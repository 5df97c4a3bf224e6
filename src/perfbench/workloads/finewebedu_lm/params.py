"""Parameters of the family: variants differ in these and in nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from perfbench.spec.base import Spec

StoredSplit = Literal["train", "validation", "test"]

_MAX_STORED_ID = 1 << 16
_PAIR = 2
_INNER_WIDTH_MULTIPLE = 256


HELD_OUT_FILES = ("validation.*", "test.*")
"""Patterns of prepared files that hold evaluation examples: a confined trainer cannot read them."""


class Params(Spec):
    """Model and data of one variant at one scale."""

    tokenizer: Literal["gpt2", "sentencepiece"]
    """GPT-2's vocabulary, whose files are given; or one that is trained on the training documents."""
    vocabulary_sha256: dict[str, str] = Field(default_factory=dict)
    """Of the files of a given vocabulary, by name: another vocabulary is another workload."""
    vocab_size: int = Field(ge=8, le=_MAX_STORED_ID)
    row_length: int = Field(ge=2)
    """Inputs of a row, and as many targets: ``row_length + 1`` consecutive tokens."""
    expected_documents: dict[StoredSplit, int]
    """Asserted against the prepared data."""
    eval_train_rows: int = Field(ge=1)
    """Training rows that are evaluated; the trial's seed chooses them."""
    validation_rows: int = Field(ge=1)
    """The first of a fixed permutation of the validation documents' rows."""
    test_rows: int = Field(ge=1)

    width: int = Field(ge=4)
    num_heads: int = Field(ge=1)
    num_layers: int = Field(ge=1)
    feed_forward_width: int = Field(ge=1)
    """As asked for; rounded up to a multiple of 256, as published."""
    feed_forward: Literal["sigmoid_gate", "gelu"]
    norm: Literal["rms", "layer"]
    positions: Literal["rotary", "learned"]
    normalises_queries_and_keys: bool
    """To length 1, with a learned scale for each block; else scores are divided by the root of the head's width."""
    shares_table: bool
    """Whether the output has the embedding's table or one of its own."""
    as_published: bool
    """The small number against division by zero is added to normalised queries and keys (a zero query is NaN)."""
    loss_chunk_tokens: int = Field(ge=1)
    """Logits that are held at once: those of so many tokens. More are computed in turns, and again for the gradient."""

    @model_validator(mode="after")
    def _fits_together(self) -> Params:
        if self.width % self.num_heads or self.head_width % _PAIR:
            msg = f"width {self.width} must be divisible by num_heads ({self.num_heads}) into even widths"
            raise ValueError(msg)
        if (self.tokenizer == "gpt2") != bool(self.vocabulary_sha256):
            msg = "vocabulary_sha256 is given if, and only if, the vocabulary's files are (tokenizer=gpt2)"
            raise ValueError(msg)
        return self

    @property
    def head_width(self) -> int:
        """Return the channels of a head."""
        return self.width // self.num_heads

    @property
    def inner_width(self) -> int:
        """Return the feed-forward width as built."""
        return -(-self.feed_forward_width // _INNER_WIDTH_MULTIPLE) * _INNER_WIDTH_MULTIPLE

    def evaluated_rows(self, split: StoredSplit) -> int:
        """Return how many rows of a stored split are evaluated."""
        return {"train": self.eval_train_rows, "validation": self.validation_rows, "test": self.test_rows}[split]
