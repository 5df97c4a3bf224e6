"""Digests of the whole training state at chosen steps: proof that two trajectories are the same, bit for bit."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from perfbench.api.submission import Submission
from perfbench.data.prefetch import DeviceBatches
from perfbench.engine.state import digest_of


def trace_step(
    model: nn.Module, submission: Submission, batches: DeviceBatches, loss: torch.Tensor
) -> dict[str, object]:
    """Return digests of parameters, submission state and this rank's last examples, and the exact loss."""
    ids = batches.last_example_ids()
    return {
        "parameters": digest_of(dict(model.named_parameters())),
        "state": digest_of(submission.state_dict()),
        "loss": float(loss).hex(),
        "example_ids": hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest(),
    }
