"""A real process group (gloo) for tests of optimizers that exchange state."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist


def join(rank: int, num_ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=num_ranks, timeout=timedelta(seconds=60))


def leave() -> None:
    dist.barrier()  # gloo's threads may abort the process if another rank is gone first
    dist.destroy_process_group()
