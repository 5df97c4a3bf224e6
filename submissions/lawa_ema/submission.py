"""LAWA with an exponential average: NAdamW evaluated at it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from pydantic import Field
from torch import Tensor

from perfbench.api import StateDict, TrainingContext
from perfbench.api.optim import AveragingSubmission, FirstMoment, MomentCorrection, NAdamW, SnapshotTimes
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
    lawa_beta: float = Field(ge=0, le=1)
    """Decay of the average, from one snapshot to the next."""


class Behaviour(StrEnum):
    """As the competition ran it, or as its authors meant it."""

    AS_RUN = "as_run"
    AS_INTENDED = "as_intended"


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection
    first_update: Behaviour
    """As run: at the peak rate. As intended: at the start of the warm-up."""
    average: Behaviour
    """As run: the decay is truncated to a whole number, so the average is the latest snapshot. As intended: the
    point's decay."""


class ExponentialAverage:
    """``e = decay e + (1 - decay) snapshot``; the first snapshot starts it."""

    def __init__(self, decay: float, device: torch.device) -> None:
        self._decay = decay
        self._device = device
        self._average: list[Tensor] | None = None

    def add(self, weights: Sequence[Tensor]) -> None:
        """Fold a snapshot in."""
        if self._average is None:
            self._average = [tensor.clone() for tensor in weights]
        else:
            torch._foreach_lerp_(self._average, list(weights), 1 - self._decay)

    def value(self) -> list[Tensor] | None:
        """Return the average, or ``None`` before the first snapshot."""
        return self._average

    def state_dict(self) -> StateDict:
        """Return the average."""
        return {"average": self._average}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the average."""
        saved = state["average"]
        self._average = None if saved is None else [tensor.to(self._device, copy=True) for tensor in saved]


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> AveragingSubmission:
    """Return NAdamW with its average; weight decay acts on every parameter."""
    point = hyperparameters
    decay = float(int(point.lawa_beta)) if options.average is Behaviour.AS_RUN else point.lawa_beta
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
        ExponentialAverage(decay, context.device),
        times=times,
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )
