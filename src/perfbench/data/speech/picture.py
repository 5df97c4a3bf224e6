"""What a batch looks like: what the model hears, what was said, and what it understood."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from perfbench.api.picture import HeatPanel, Picture, padding_share
from perfbench.api.workload import Batch
from perfbench.data.speech.front_end import LogMel, valid_frames
from perfbench.data.speech.params import HOP_SAMPLES, SAMPLE_RATE_HZ

NUM_SHOWN = 4
_NUM_COLUMNS = 2
_MOST_CHARACTERS = 74


def spectrograms(batch: Batch, shown: Batch, hypotheses: Sequence[str], references: Sequence[str]) -> Picture:
    """Return log-mel features as the encoder gets them (before masking), with both texts above.

    Args:
        batch: Of a speech workload.
        shown: Some of its examples.
        hypotheses: Decoded texts of these.
        references: Their transcripts.
    """
    audio, num_samples = shown["audio"], shown["num_samples"]
    features: Tensor = LogMel().to(audio.device)(audio, num_samples)
    num_frames = valid_frames(num_samples, features.shape[1]).tolist()
    panels = [
        HeatPanel(
            title=f"said:  {_shortened(said)}\nheard: {_shortened(heard)}",
            values=features[number, : num_frames[number]].T.float().cpu().numpy(),
            width=num_frames[number] * HOP_SAMPLES / SAMPLE_RATE_HZ,
            x_label="seconds",
            y_label="mel bin",
        )
        for number, (said, heard) in enumerate(zip(references, hypotheses, strict=True))
    ]
    used, slots = int(batch["num_samples"].sum()), batch["audio"].numel()
    room_s = batch["audio"].shape[1] / SAMPLE_RATE_HZ
    return Picture(
        caption=f"{len(references)} of {len(batch['weights'])} utterances; {room_s:g} s of room each, "
        f"{padding_share(used, slots)}",
        panels=tuple(panels),
        num_columns=_NUM_COLUMNS,
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
