"""Evaluate other weights than those that are trained, such as an average of them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from perfbench.api.behaviour import Behaviour
from perfbench.api.gradient import GradientSubmission, Schedule
from perfbench.api.optim.nadamw import FirstMoment, MomentCorrection, nadamw_at
from perfbench.api.optim.points import AdamPoint
from perfbench.api.schedules import CyclicCosine
from perfbench.api.submission import StateDict, StepReport, TrainingContext
from perfbench.api.workload import Batch
from perfbench.spec.base import Spec


class WeightAverage(Protocol):
    """An average of snapshots."""

    def add(self, weights: Sequence[Tensor]) -> None:
        """Take a snapshot."""
        ...

    def value(self) -> list[Tensor] | None:
        """Return the average, or ``None`` while it is not to be used yet."""
        ...

    def state_dict(self) -> StateDict:
        """Return all snapshots or their average."""
        ...

    def load_state_dict(self, state: StateDict) -> None:
        """Restore a state."""
        ...


@dataclass(frozen=True, slots=True)
class SnapshotTimes:
    """When snapshots are taken.

    Args:
        start: The update (counted from 0) after which the first is taken.
        interval: Updates from one to the next.
    """

    start: int
    interval: int

    @staticmethod
    def of_budget(step_hint: int, *, start_factor: float, interval_factor: float) -> SnapshotTimes:
        """Return times that are parts of the step budget, rounded up.

        >>> SnapshotTimes.of_budget(10_666, start_factor=0.02, interval_factor=0.002)
        SnapshotTimes(start=214, interval=22)
        """
        return SnapshotTimes(math.ceil(start_factor * step_hint), math.ceil(interval_factor * step_hint))

    def is_due_after(self, k: int) -> bool:
        """Tell whether a snapshot is taken after update ``k``, counted from 0."""
        return k >= self.start and (k - self.start) % self.interval == 0


class EvaluatesOtherWeights(GradientSubmission):
    """Ordinary training of one set of weights, evaluation of another.

    Training never sees the other weights: ``prepare_for_eval`` puts them into the model and ``resume_training`` puts
    the training weights back, bit for bit.
    """

    _live: list[Tensor] | None = None

    @abstractmethod
    def _evaluated_weights(self) -> Sequence[Tensor] | None:
        """Return the weights to evaluate, in the order of the parameters; ``None`` for the training weights."""

    @torch.no_grad()
    def prepare_for_eval(self) -> nn.Module:
        """Put the other weights into the model, if there are any."""
        evaluated = self._evaluated_weights()
        if evaluated is not None:
            self._live = [weights.clone() for weights in self._weights()]
            for weights, value in zip(self._weights(), evaluated, strict=True):
                weights.copy_(value)
        return self.context.model

    @torch.no_grad()
    def resume_training(self) -> None:
        """Put the training weights back."""
        if self._live is not None:
            for weights, live in zip(self._weights(), self._live, strict=True):
                weights.copy_(live)
            self._live = None

    def _weights(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self.context.model.parameters()]


class AveragingSubmission(EvaluatesOtherWeights):
    """Ordinary training; snapshots at regular steps; their average is what is evaluated.

    Args:
        context: What the engine offers.
        optimizer: Trains.
        average: Of the snapshots.
        times: When snapshots are taken.
        schedule: The rate of update ``k``.
        label_smoothing: Given to the loss.
        dropout_rate: Set on the model once.
    """

    def __init__(
        self,
        context: TrainingContext,
        optimizer: Optimizer,
        average: WeightAverage,
        *,
        times: SnapshotTimes,
        schedule: Schedule,
        label_smoothing: float,
        dropout_rate: float,
    ) -> None:
        super().__init__(
            context, [optimizer], schedule=schedule, label_smoothing=label_smoothing, dropout_rate=dropout_rate
        )
        self.average = average
        self.times = times

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step, then take a snapshot where one is due."""
        report = super().update_params(batch)
        if self.times.is_due_after(self.num_updates - 1):
            self.average.add(self._weights())
        return report

    def state_dict(self) -> StateDict:
        """Return the optimizer's state and the average's."""
        return {**super().state_dict(), "average": self.average.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the optimizer's state and the average's."""
        super().load_state_dict(state)
        self.average.load_state_dict(state["average"])

    def _evaluated_weights(self) -> Sequence[Tensor] | None:
        return self.average.value()


class AveragedPoint(AdamPoint):
    """A point of NAdamW that is evaluated at an average of snapshots."""

    lawa_start_factor: float = Field(ge=0, le=1)
    """When the first snapshot is taken, as a part of the step budget."""
    lawa_interval_scaling: float = Field(gt=0, le=1)
    """From one snapshot to the next, as a part of the step budget."""


class AveragedOptions(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection
    first_update: Behaviour
    """As run: at the peak rate. As intended: at the start of the warm-up."""


def averaged_nadamw(
    context: TrainingContext, point: AveragedPoint, average: WeightAverage, *, options: AveragedOptions
) -> AveragingSubmission:
    """Return NAdamW under one warm-up and cosine, evaluated at an average; weight decay acts on every parameter.

    Source: both LAWA entries of AlgoPerf v0.5 (Kaddour 2022, arXiv 2209.14981).
    """
    first_moment = FirstMoment(correction=options.first_moment)
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
        nadamw_at(point, context.model.parameters(), first_moment=first_moment),
        average,
        times=times,
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )


def host_copy(weights: Tensor) -> Tensor:
    """Return a copy in host memory; from a device it is made without waiting, so synchronise before reading it."""
    copy = torch.empty_like(weights, device="cpu", pin_memory=weights.is_cuda)
    copy.copy_(weights, non_blocking=True)
    return copy


def finish_host_copies() -> None:
    """Wait until all copies to host memory are complete."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
