"""Which device and how many threads a rank has: the same for its referee and its trainer."""

from __future__ import annotations

import os

import torch

from perfbench.engine.wire.messages import Place
from perfbench.spec.run import TrialSpec


def device_of(trial: TrialSpec, place: Place) -> torch.device:
    """Choose this rank's device and its number of threads."""
    threads = trial.scale.threads_per_rank or max(1, (os.cpu_count() or 1) // place.num_local_ranks)
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", place.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
