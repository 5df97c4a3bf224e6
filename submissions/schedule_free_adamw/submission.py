"""Schedule-Free AdamW, second of the competition's external tuning ruleset."""

from __future__ import annotations

from enum import StrEnum

import torch
from pydantic import Field

from perfbench.api import TrainingContext
from perfbench.api.optim import DecayPoint, ScheduleFreeAdamW, ScheduleFreeSubmission, ScheduleFreeVariant
from perfbench.api.schedules import WarmupConstant
from perfbench.spec.base import Spec

EPSILON = 1e-8


class Hyperparameters(Spec):
    """One point of the search space, named as in the competition."""

    learning_rate: float = Field(gt=0)
    one_minus_beta1: float = Field(gt=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_factor: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)


class Behaviour(StrEnum):
    """As the competition ran it, or as the paper has it."""

    AS_RUN = "as_run"
    AS_INTENDED = "as_intended"


class Options(Spec):
    """Behaviours as run or as intended."""

    decay: Behaviour
    """As run: proportional to the average, with the bias-corrected rate. As intended: to the gradient point, with the
    plain rate."""
    second_moment: Behaviour
    """As run: bfloat16. As intended: float32."""
    batch_norm: Behaviour
    """As run: statistics are collected at the gradient point. As intended: at the average that is evaluated, by a
    forward pass of its own in every step."""


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW; weight decay acts on every parameter."""
    point = hyperparameters
    optimizer = ScheduleFreeAdamW(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=(1 - point.one_minus_beta1, point.beta2),
        eps=EPSILON,
        weight_decay=point.weight_decay,
        variant=variant(options),
    )
    warmup = int(point.warmup_factor * context.step_hint)
    return ScheduleFreeSubmission(
        context,
        optimizer,
        schedule=WarmupConstant(peak=point.learning_rate, warmup=warmup, lowest=EPSILON),
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
        has_statistics_pass=None if options.batch_norm is Behaviour.AS_RUN else lambda _: True,
    )


def variant(options: Options) -> ScheduleFreeVariant:
    """Return the entry's choices."""
    is_decay_as_run = options.decay is Behaviour.AS_RUN
    is_moment_as_run = options.second_moment is Behaviour.AS_RUN
    return ScheduleFreeVariant(
        decay_at=DecayPoint.AVERAGE if is_decay_as_run else DecayPoint.GRADIENT_POINT,
        decay_is_corrected=is_decay_as_run,
        step_power=0.75,
        second_moment_dtype=torch.bfloat16 if is_moment_as_run else torch.float32,
    )
