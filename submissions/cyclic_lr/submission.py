"""NAdamW under cycles of linear warm-up and cosine decay."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import FirstMoment, MomentCorrection, NAdamW
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
    cycles: int = Field(ge=1)


class FirstUpdate(StrEnum):
    """The rate of the very first update."""

    AS_RUN = "as_run"
    """The peak: the scheduler set no rate before it."""
    AS_INTENDED = "as_intended"
    """Where the warm-up starts, 1e-10."""


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection
    first_update: FirstUpdate


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return NAdamW under the cycles of the point; weight decay acts on every parameter."""
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
        num_cycles=point.cycles,
        starts_at_peak=options.first_update is FirstUpdate.AS_RUN,
    )
    return GradientSubmission(
        context,
        [optimizer],
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )
