"""LAWA: NAdamW evaluated at the mean of its latest snapshots."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import StrEnum

import torch
from pydantic import Field
from torch import Tensor

from perfbench.api import StateDict, TrainingContext
from perfbench.api.optim import AveragingSubmission, FirstMoment, MomentCorrection, NAdamW, SnapshotTimes, host_copy
from perfbench.api.schedules import CyclicCosine
from perfbench.spec.base import Spec


class Hyperparameters(Spec):
    """One point of the search space, named as in the competition."""

    learning_rate: float = Field(gt=0)
    one_minus_beta1: float = Field(gt=0, le=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_factor: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)
    lawa_start_factor: float = Field(ge=0, le=1)
    lawa_interval_scaling: float = Field(gt=0, le=1)
    k: int = Field(ge=1)
    """How many snapshots are averaged."""


class Behaviour(StrEnum):
    """As the competition ran it, or as its authors meant it."""

    AS_RUN = "as_run"
    AS_INTENDED = "as_intended"


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection
    first_update: Behaviour
    """As run: at the peak rate. As intended: at the start of the warm-up."""


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
        _finish_copies()
        return [torch.stack(tensors).mean(dim=0) for tensors in zip(*self._snapshots, strict=True)]

    def state_dict(self) -> StateDict:
        """Return all snapshots, oldest first."""
        _finish_copies()
        return {"snapshots": [list(snapshot) for snapshot in self._snapshots]}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore all snapshots."""
        self._snapshots.clear()
        self._snapshots.extend(list(snapshot) for snapshot in state["snapshots"])


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> AveragingSubmission:
    """Return NAdamW with its average; weight decay acts on every parameter."""
    point = hyperparameters
    optimizer = NAdamW(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=(1 - point.one_minus_beta1, point.beta2),
        weight_decay=point.weight_decay,
        first_moment=FirstMoment(correction=options.first_moment),
    )
    schedule = CyclicCosine(
        peak=point.learning_rate,
        horizon=context.step_hint,
        warmup=int(point.warmup_factor * context.step_hint),
        starts_at_peak=options.first_update is Behaviour.AS_RUN,
    )
    times = SnapshotTimes.of_budget(
        context.step_hint, start_factor=point.lawa_start_factor, interval_factor=point.lawa_interval_scaling
    )
    return AveragingSubmission(
        context,
        optimizer,
        SnapshotQueue(point.k),
        times=times,
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )


def _finish_copies() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
