"""SGD with momentum, heavy ball or Nesterov's, under a linear decay of the rate."""

from __future__ import annotations

from enum import StrEnum

import torch
from pydantic import Field

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import WarmupPoint, submission_at
from perfbench.api.schedules import WarmupLinear
from perfbench.spec.base import Spec


class Momentum(StrEnum):
    """What the momentum does to a step."""

    HEAVY_BALL = "heavy_ball"
    """The step is the momentum."""
    NESTEROV = "nesterov"
    """The step looks ahead: the gradient and the decayed momentum."""


class Hyperparameters(WarmupPoint):
    """One point of the search space."""

    decay_steps_factor: float = Field(ge=0, le=1)
    """How much of the time after the warm-up the rate decays."""
    end_factor: float = Field(ge=0, le=1)
    """The last rate as a part of the peak."""


class Options(Spec):
    """What is fixed, but not by the method."""

    momentum: Momentum = Momentum.NESTEROV


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return SGD; weight decay acts on every parameter and is part of the gradient."""
    point, horizon = hyperparameters, context.step_hint
    optimizer = torch.optim.SGD(
        context.model.parameters(),
        lr=point.learning_rate,
        momentum=1 - point.one_minus_beta1,
        weight_decay=point.weight_decay,
        nesterov=options.momentum is Momentum.NESTEROV,
    )
    warmup = int(point.warmup_factor * horizon)
    schedule = WarmupLinear(
        point.learning_rate,
        warmup=warmup,
        decay=int((horizon - warmup) * point.decay_steps_factor),
        end_factor=point.end_factor,
    )
    return submission_at(point, context, optimizer, schedule=schedule)
