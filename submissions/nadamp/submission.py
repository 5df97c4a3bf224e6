"""NadamP: NAdamW whose second moment is taken to the root of the point's power."""

from __future__ import annotations

from pydantic import Field

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import FirstMoment, MomentCorrection, NAdamW
from perfbench.api.schedules import WarmupCosine
from perfbench.spec.base import Spec


class Hyperparameters(Spec):
    """One point of the search space, named as in the competition."""

    learning_rate: float = Field(gt=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_steps_fraction: float = Field(ge=0, le=1)
    nesterov: bool
    power: float = Field(gt=0)
    dropout_rate: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    cosine_decay_fraction: float = Field(gt=0)


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return NAdamW with the point's root; weight decay acts on every parameter."""
    point = hyperparameters
    optimizer = NAdamW(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=(point.beta1, point.beta2),
        weight_decay=point.weight_decay,
        power=point.power,
        first_moment=FirstMoment(nesterov=point.nesterov, correction=options.first_moment),
    )
    horizon = int(point.cosine_decay_fraction * context.step_hint)
    schedule = WarmupCosine(
        peak=point.learning_rate, horizon=horizon, warmup=int(point.warmup_steps_fraction * horizon)
    )
    return GradientSubmission(
        context,
        [optimizer],
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )
