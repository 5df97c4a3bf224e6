"""Batches of utterances that nobody spoke."""

from __future__ import annotations

import torch

from perfbench.api.workload import Batch
from perfbench.data.inventing import Inventor
from perfbench.data.speech.params import END_ID, FRAME_SAMPLES, SpeechParams

_LOUDNESS = 1500.0
"""Standard deviation of 16-bit samples."""
_FRAMES_PER_LABEL = 6
"""Encoder frames; public speech has about so many for each piece of a vocabulary of 1,024."""


def invented_utterances(drawn: Inventor, params: SpeechParams, batch_size: int) -> Batch:
    """Return noise of half to full length with as many labels as fit well, silent and without labels behind."""
    shortest = max(FRAME_SAMPLES, params.max_samples // 2)
    num_samples = drawn.integers(shortest, params.max_samples + 1, batch_size)
    is_sound = torch.arange(params.max_samples) < num_samples[:, None]
    samples = (drawn.normal(batch_size, params.max_samples) * _LOUDNESS).to(torch.int16)
    frames = [params.encoder_frames_of(count) for count in num_samples.tolist()]
    fitting = [min(max(1, count // _FRAMES_PER_LABEL), params.max_labels) for count in frames]
    num_labels = torch.tensor(fitting, dtype=torch.int32)
    to_end = num_labels[:, None] - torch.arange(params.max_labels)
    labels = drawn.integers(END_ID + 1, params.num_pieces, batch_size, params.max_labels)
    labels[to_end == 1] = END_ID
    return {
        "audio": samples * is_sound,
        "num_samples": num_samples,
        "labels": labels * (to_end > 0),
        "num_labels": num_labels,
        "weights": torch.ones(batch_size),
    }
