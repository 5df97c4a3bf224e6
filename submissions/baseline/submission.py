"""The competition's baseline: NAdamW with warm-up and cosine decay over the whole step budget."""

from __future__ import annotations

from pydantic import Field

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import FirstMoment, MomentCorrection, NAdamW
from perfbench.api.schedules import WarmupCosine
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


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection = MomentCorrection.AS_RUN


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return NAdamW; weight decay acts on every parameter, as in the competition."""
    point = hyperparameters
    optimizer = NAdamW(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=(1 - point.one_minus_beta1, point.beta2),
        weight_decay=point.weight_decay,
        first_moment=FirstMoment(correction=options.first_moment),
    )
    schedule = WarmupCosine(
        peak=point.learning_rate,
        horizon=context.step_hint,
        warmup=int(point.warmup_factor * context.step_hint),
    )
    return GradientSubmission(
        context,
        [optimizer],
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )
