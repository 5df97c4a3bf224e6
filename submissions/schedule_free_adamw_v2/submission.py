"""Schedule-Free AdamW, version of the competition's second round: batch-norm statistics of the evaluated weights."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from perfbench.api import TrainingContext
from perfbench.api.optim import ScheduleFreeAdamW, ScheduleFreeSubmission, ScheduleFreeVariant
from perfbench.api.schedules import WarmupConstant
from perfbench.spec.base import Spec

EPSILON = 1e-8
WARMUP_HORIZON = 0.75
"""The warm-up is this part of the point's part of the step budget."""
STATISTICS_PERIOD = 3


class Hyperparameters(Spec):
    """One point of the search space, named as in the competition."""

    learning_rate: float = Field(gt=0)
    one_minus_beta1: float = Field(gt=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_factor: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)


class StatisticsPass(StrEnum):
    """On which steps batch-norm statistics are collected by an extra forward pass at the average."""

    AS_RUN = "as_run"
    """On two steps of three."""
    ONE_OF_THREE = "one_step_of_three"
    """On one step of three, as in the self-tuning entry."""
    NEVER = "never"
    """No extra pass: statistics come from the gradient pass."""


class Options(Spec):
    """Behaviours as run or as intended."""

    statistics_pass: StatisticsPass


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW; weight decay acts on every parameter."""
    point = hyperparameters
    optimizer = ScheduleFreeAdamW(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=(1 - point.one_minus_beta1, point.beta2),
        eps=EPSILON,
        weight_decay=point.weight_decay,
        variant=ScheduleFreeVariant(decay_is_corrected=True, uses_highest_rate=False),
    )
    warmup = int(point.warmup_factor * context.step_hint * WARMUP_HORIZON)
    has_pass = {
        StatisticsPass.AS_RUN: lambda step: step % STATISTICS_PERIOD != 0,
        StatisticsPass.ONE_OF_THREE: lambda step: step % STATISTICS_PERIOD == 0,
        StatisticsPass.NEVER: None,
    }
    return ScheduleFreeSubmission(
        context,
        optimizer,
        schedule=WarmupConstant(peak=point.learning_rate, warmup=warmup, lowest=EPSILON),
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
        has_statistics_pass=has_pass[options.statistics_pass],
    )
