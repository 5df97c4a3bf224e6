"""The hyperparameters that many search spaces share, named as in the competition, and the submission at a point."""

from __future__ import annotations

from typing import Protocol

from pydantic import Field
from torch.optim.optimizer import Optimizer

from perfbench.api.gradient import GradientSubmission, Schedule
from perfbench.api.schedules import WarmupCosine
from perfbench.api.submission import TrainingContext
from perfbench.spec.base import Spec


class RateAndDecay(Spec):
    """A point of a method whose other numbers are fixed."""

    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class WarmupPoint(Spec):
    """A point of a method with momentum whose rate warms up; subclasses add their own."""

    learning_rate: float = Field(gt=0)
    one_minus_beta1: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    warmup_factor: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)


class AdamPoint(WarmupPoint):
    """A point of a method of Adam's kind."""

    beta2: float = Field(ge=0, lt=1)

    @property
    def betas(self) -> tuple[float, float]:
        """Decay of the first and second moment."""
        return 1 - self.one_minus_beta1, self.beta2


class CosineFractionPoint(Spec):
    """A point of a method of Adam's kind whose cosine takes a part of the step budget, and the warm-up a part of that.

    Source: the search spaces of two entries of AlgoPerf v0.5, Generalized Adam and NadamP.
    """

    learning_rate: float = Field(gt=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_steps_fraction: float = Field(ge=0, le=1)
    nesterov: bool
    dropout_rate: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    cosine_decay_fraction: float = Field(gt=0)

    @property
    def betas(self) -> tuple[float, float]:
        """Decay of the first and second moment."""
        return self.beta1, self.beta2

    def schedule(self, step_hint: int) -> WarmupCosine:
        """Return the rate of update ``k``, for a budget of ``step_hint`` updates."""
        horizon = int(self.cosine_decay_fraction * step_hint)
        return WarmupCosine(peak=self.learning_rate, horizon=horizon, warmup=int(self.warmup_steps_fraction * horizon))


class RegularisedPoint(Protocol):
    """What a point says about regularisation, besides weight decay."""

    @property
    def label_smoothing(self) -> float:
        """Given to the loss."""
        ...

    @property
    def dropout_rate(self) -> float:
        """Set on the model once."""
        ...


def submission_at(
    point: RegularisedPoint, context: TrainingContext, optimizer: Optimizer, *, schedule: Schedule
) -> GradientSubmission:
    """Return one optimizer under a schedule, with the point's label smoothing and dropout."""
    return GradientSubmission(
        context,
        [optimizer],
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )
