"""What of a trainer goes into a saved state: what is equal on all ranks once, the rest by rank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perfbench.api.generators import capture_generators, restore_generators
from perfbench.api.submission import StateDict, Submission
from perfbench.api.workload import Shard
from perfbench.engine.trainer.state import copy_into, on_cpu, plain
from perfbench.engine.trainer.workplace import Workplace
from perfbench.engine.wire.state_files import state_file


def taken(workplace: Workplace, submission: Submission) -> StateDict:
    """Return all that a resume needs, as plain data; the numbers are not copied yet.

    Raises:
        SubmissionError: If the submission's state holds something else than plain data.
    """
    own: StateDict = {
        "buffers": dict(nn.Module.named_buffers(workplace.model)),
        "generators": capture_generators(),
        "data": workplace.batches.state_dict(),
    }
    shared: StateDict = {"parameters": dict(nn.Module.named_parameters(workplace.model))}
    holder = own if submission.state_is_sharded else shared
    holder["submission"] = submission.state_dict()
    kept = shared if workplace.team.shard.rank == 0 else None
    state: StateDict = plain({"own": own, "shared": kept}, "state")
    return state


def write(state: StateDict, folder: Path, shard: Shard) -> None:
    """Write this rank's file; it is on the disk when this returns."""
    path = state_file(folder, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        torch.save(on_cpu(state), file)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path, shard: Shard) -> StateDict:
    """Return this rank's state, with what is equal on all ranks from rank 0's file."""
    state: StateDict = _load(state_file(folder, shard))
    if shard.rank:
        state["shared"] = _load(state_file(folder, Shard(num_ranks=shard.num_ranks)))["shared"]
    return state


def put_back(state: StateDict, workplace: Workplace, submission: Submission) -> None:
    """Continue from a state: weights, running statistics, the submission's state, data position, generators."""
    copy_into(workplace.model.named_parameters(), state["shared"]["parameters"])
    copy_into(workplace.model.named_buffers(), state["own"]["buffers"])
    holder = state["own"] if submission.state_is_sharded else state["shared"]
    submission.load_state_dict(holder["submission"])
    workplace.batches.load_state_dict(state["own"]["data"])
    restore_generators(state["own"]["generators"])


def _load(path: Path) -> Any:  # noqa: ANN401 - a tree of plain data
    return torch.load(path, map_location="cpu", weights_only=True)
