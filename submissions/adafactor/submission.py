"""Adafactor as the benchmark's baseline has it: factored second moments, momentum, decoupled decay."""

from __future__ import annotations

from pydantic import Field

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.schedules import WarmupPeriodicCosine
from perfbench.spec.base import Spec
from submissions.adafactor.optimizer import Adafactor


class Hyperparameters(Spec):
    """One point of the search space."""

    learning_rate: float = Field(gt=0)
    one_minus_beta1: float = Field(gt=0, le=1)
    warmup_factor: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)


def build(context: TrainingContext, hyperparameters: Hyperparameters) -> GradientSubmission:
    """Return Adafactor; weight decay acts on every parameter, as in the benchmark's baseline."""
    point, horizon = hyperparameters, context.step_hint
    optimizer = Adafactor(
        context.model.parameters(),
        lr=point.learning_rate,
        beta1=1 - point.one_minus_beta1,
        weight_decay=point.weight_decay,
    )
    return GradientSubmission(
        context,
        [optimizer],
        schedule=WarmupPeriodicCosine(point.learning_rate, horizon=horizon, warmup=int(point.warmup_factor * horizon)),
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )
