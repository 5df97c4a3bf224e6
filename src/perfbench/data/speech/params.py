"""What every speech workload fixes besides its model. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from perfbench.spec.base import Spec

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 401
"""Samples that a frame of the front end needs: 400 and the one before them (pre-emphasis)."""
HOP_SAMPLES = 160
SUBSAMPLING = 4
"""Feature frames per encoder frame."""
BLANK_ID = 0
END_ID = 2

SUBSETS: dict[Literal["train", "validation", "test"], tuple[str, ...]] = {
    "train": ("train-clean-100", "train-clean-360", "train-other-500"),
    "validation": ("dev-clean", "dev-other"),
    "test": ("test-clean",),
}
"""Which folders of the corpus make each split."""
TOKENIZER_SUBSET = "train-clean-100"


class SpeechParams(Spec):
    """Limits, tokenizer, augmentation and expected sizes; a family's ``Params`` adds its model."""

    max_samples: int = Field(ge=FRAME_SAMPLES)
    """Longer utterances are left out; every waveform is padded to it."""
    max_characters: int = Field(ge=1)
    """Transcripts with more characters are left out."""
    max_labels: int = Field(ge=1)
    """Label slots of an example."""
    vocabulary_size: int = Field(ge=4)
    """What is asked of the tokenizer's training."""
    vocabulary_is_exact: bool
    """Whether a tokenizer with fewer pieces is an error."""
    num_pieces: int = Field(ge=4)
    """What the trained tokenizer has: the width of the output layer."""
    time_masks: int = Field(ge=0)
    frequency_masks: int = Field(ge=0)
    max_masked_bins: int = Field(ge=1, le=80)
    """Widths of frequency masks are below it."""
    batch_norm_momentum: float = Field(gt=0, le=1)
    """Share of a batch in the running statistics."""
    batch_norm_examples: int | None = Field(ge=1)
    """Consecutive examples that share batch statistics; ``null``: all of a rank's part of the batch."""
    dropout_rate: float = Field(ge=0, lt=1)
    eval_train_examples: int = Field(ge=1)
    archive_utterances: dict[str, int]
    """Utterances of each folder of the corpus before anything is left out; asserted while preparing."""
    expected_examples: dict[Literal["train", "validation", "test"], int]
    """Asserted against the prepared data."""

    @property
    def num_frames(self) -> int:
        """Feature frames of the padded waveform."""
        return 1 + (self.max_samples - FRAME_SAMPLES) // HOP_SAMPLES

    @property
    def num_encoder_frames(self) -> int:
        """Frames after subsampling."""
        return -(-self.num_frames // SUBSAMPLING)

    def encoder_frames_of(self, num_samples: int) -> int:
        """Return how many encoder frames an utterance fills."""
        return -(-min(-(-num_samples // HOP_SAMPLES), self.num_frames) // SUBSAMPLING)

    @model_validator(mode="after")
    def _padding_changes_nothing(self) -> SpeechParams:
        if self.num_frames % SUBSAMPLING != 2:  # noqa: PLR2004
            msg = (
                f"max_samples of {self.max_samples} give {self.num_frames} frames; the number must leave 2 when "
                f"divided by {SUBSAMPLING}, or padding would shift the strided convolutions"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _corpus_is_known(self) -> SpeechParams:
        known = [subset for subsets in SUBSETS.values() for subset in subsets]
        if sorted(self.archive_utterances) != sorted(known):
            msg = f"archive_utterances needs the folders {', '.join(known)}"
            raise ValueError(msg)
        return self
