"""Batches of slices of nobody: speckle, standardised as real slices are."""

from __future__ import annotations

import torch

from perfbench.api.workload import Batch
from perfbench.data.inventing import Inventor
from perfbench.workloads.fastmri.imaging import CLIP

_RAW_UNIT = 1e-5
"""Magnitude of the public images."""
_RAYLEIGH_MEAN, _RAYLEIGH_STD = 1.2533, 0.6551
_ERROR = 0.3
"""Of the input against its target, in standard deviations."""


def invented_slices(drawn: Inventor, batch_size: int, image_size: int) -> Batch:
    """Return a batch of magnitudes of complex noise, ``[b, n, n]``, and inputs that differ from them by noise."""
    shape = (batch_size, image_size, image_size)
    magnitudes = torch.hypot(drawn.normal(*shape), drawn.normal(*shape))
    targets = ((magnitudes - _RAYLEIGH_MEAN) / _RAYLEIGH_STD).clamp_(-CLIP, CLIP)
    std = _RAW_UNIT * drawn.uniform(0.5, 2.0, batch_size)
    mean = std * drawn.uniform(0.8, 1.2, batch_size)
    return {
        "inputs": (targets + _ERROR * drawn.normal(*shape)).clamp_(-CLIP, CLIP),
        "targets": targets,
        "mean": mean,
        "std": std,
        "maximum": mean + CLIP * std,
        "weights": torch.ones(batch_size),
    }
