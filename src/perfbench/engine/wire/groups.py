"""The process groups of a trial: the referees form one, the trainers another."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist

from perfbench.engine.wire import rendezvous
from perfbench.engine.wire.messages import Place
from perfbench.engine.wire.team import ProcessTeam, Team


def join_group(who: str, place: Place, device: torch.device, *, backend: str, timeout: timedelta) -> Team:
    """Join the group of all referees or of all trainers.

    Args:
        who: Which group: ``referees`` or ``trainers``.
        place: Of this rank.
        device: Of this rank.
        backend: Of torch.
        timeout: How long ranks wait for one another.
    """
    dist.init_process_group(
        backend,
        store=rendezvous.join(rank=place.rank, num_ranks=place.num_ranks, timeout=timeout, group=who),
        rank=place.rank,
        world_size=place.num_ranks,
        timeout=timeout,
        device_id=device if backend == "nccl" else None,
    )
    return ProcessTeam(timeout=timeout)
