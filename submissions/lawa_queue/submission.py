"""LAWA: NAdamW evaluated at the mean of its latest snapshots."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from perfbench.api import StateDict, TrainingContext
from perfbench.api.optim import (
    AveragedOptions,
    AveragedPoint,
    AveragingSubmission,
    averaged_nadamw,
    finish_host_copies,
    host_copy,
)


class Hyperparameters(AveragedPoint):
    """One point of the search space, named as in the competition."""

    k: int = Field(ge=1)
    """How many snapshots are averaged."""


class Options(AveragedOptions):
    """Behaviours as run or as intended."""


class SnapshotQueue:
    """The mean of the latest ``length`` snapshots, once there are so many; they are kept in host memory."""

    def __init__(self, length: int) -> None:
        self._snapshots: deque[list[Tensor]] = deque(maxlen=length)

    def add(self, weights: Sequence[Tensor]) -> None:
        """Take a snapshot; the oldest of a full queue is dropped."""
        self._snapshots.append([host_copy(tensor) for tensor in weights])

    def value(self) -> list[Tensor] | None:
        """Return the mean, or ``None`` while the queue is not full."""
        if len(self._snapshots) != self._snapshots.maxlen:
            return None
        finish_host_copies()
        return [torch.stack(tensors).mean(dim=0) for tensors in zip(*self._snapshots, strict=True)]

    def state_dict(self) -> StateDict:
        """Return all snapshots, oldest first."""
        finish_host_copies()
        return {"snapshots": [list(snapshot) for snapshot in self._snapshots]}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore all snapshots."""
        self._snapshots.clear()
        self._snapshots.extend(list(snapshot) for snapshot in state["snapshots"])


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> AveragingSubmission:
    """Return NAdamW with its average."""
    return averaged_nadamw(context, hyperparameters, SnapshotQueue(hyperparameters.k), options=options)
