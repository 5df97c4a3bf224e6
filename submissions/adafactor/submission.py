"""Adafactor as the benchmark's baseline has it: factored second moments, momentum, decoupled decay."""

from __future__ import annotations

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import WarmupPoint, submission_at
from perfbench.api.schedules import WarmupPeriodicCosine
from submissions.adafactor.optimizer import Adafactor


class Hyperparameters(WarmupPoint):
    """One point of the search space."""


def build(context: TrainingContext, hyperparameters: Hyperparameters) -> GradientSubmission:
    """Return Adafactor; weight decay acts on every parameter, as in the benchmark's baseline."""
    point, horizon = hyperparameters, context.step_hint
    optimizer = Adafactor(
        context.model.parameters(),
        lr=point.learning_rate,
        beta1=1 - point.one_minus_beta1,
        weight_decay=point.weight_decay,
    )
    schedule = WarmupPeriodicCosine(point.learning_rate, horizon=horizon, warmup=int(point.warmup_factor * horizon))
    return submission_at(point, context, optimizer, schedule=schedule)
