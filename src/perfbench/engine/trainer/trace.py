"""Digests of the whole training state at chosen steps: proof that two trajectories are the same, bit for bit."""

from __future__ import annotations

import hashlib

from torch import Tensor, nn

from perfbench.api.submission import StateDict
from perfbench.data.prefetch import DeviceBatches
from perfbench.engine.trainer.state import digest_of


def trace_step(model: nn.Module, state: StateDict, batches: DeviceBatches, loss: Tensor) -> dict[str, str]:
    """Return digests of parameters, submission state and this rank's last examples, and the exact loss."""
    ids = batches.last_example_ids()
    return {
        "parameters": digest_of(dict(nn.Module.named_parameters(model))),
        "state": digest_of(state),
        "loss": float(loss).hex(),
        "example_ids": hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest(),
    }
