"""Generalized Adam: NAdamW, or momentum SGD with decoupled decay, whichever the point asks for."""

from __future__ import annotations

import torch
from pydantic import Field

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import FirstMoment, MomentCorrection, NAdamW
from perfbench.api.schedules import WarmupCosine
from perfbench.spec.base import Spec
from submissions.generalized_adam.decoupled_sgd import DecoupledSGD


class Hyperparameters(Spec):
    """One point of the search space, named as in the competition."""

    learning_rate: float = Field(gt=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_steps_fraction: float = Field(ge=0, le=1)
    nesterov: bool
    disable_preconditioning: bool
    dropout_rate: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    cosine_decay_fraction: float = Field(gt=0)


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return the optimizer of the point; weight decay acts on every parameter."""
    point = hyperparameters
    horizon = int(point.cosine_decay_fraction * context.step_hint)
    schedule = WarmupCosine(
        peak=point.learning_rate, horizon=horizon, warmup=int(point.warmup_steps_fraction * horizon)
    )
    return GradientSubmission(
        context,
        [_optimizer(context, point, options)],
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )


def _optimizer(context: TrainingContext, point: Hyperparameters, options: Options) -> torch.optim.Optimizer:
    parameters = context.model.parameters()
    if point.disable_preconditioning:
        return DecoupledSGD(
            parameters,
            lr=point.learning_rate,
            momentum=point.beta1,
            weight_decay=point.weight_decay,
            nesterov=point.nesterov,
        )
    return NAdamW(
        parameters,
        lr=point.learning_rate,
        betas=(point.beta1, point.beta2),
        weight_decay=point.weight_decay,
        first_moment=FirstMoment(nesterov=point.nesterov, correction=options.first_moment),
    )
