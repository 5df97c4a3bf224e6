"""SOAP: Adam in the slowly changing eigenbasis of Shampoo's preconditioner."""

from __future__ import annotations

from pydantic import Field
from pytorch_optimizer import SOAP

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import WarmupPoint, submission_at
from perfbench.api.schedules import WarmupCosine
from perfbench.spec.base import Spec

MAX_PRECONDITION_DIMENSION = 10_000
"""Longer dimensions keep their own basis."""


class Hyperparameters(WarmupPoint):
    """One point of the search space."""

    one_minus_beta2: float = Field(gt=0, le=1)


class Options(Spec):
    """What is fixed, but not by the method."""

    period: int = Field(default=10, ge=1)
    """Updates from one renewal of the bases to the next: 10, the authors' default, or 1, as in today's records."""


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return SOAP; weight decay acts on every parameter."""
    point, horizon = hyperparameters, context.step_hint
    optimizer = SOAP(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=(1 - point.one_minus_beta1, 1 - point.one_minus_beta2),
        weight_decay=point.weight_decay,
        precondition_frequency=options.period,
        max_precondition_dim=MAX_PRECONDITION_DIMENSION,
    )
    schedule = WarmupCosine(point.learning_rate, horizon=horizon, warmup=int(point.warmup_factor * horizon))
    return submission_at(point, context, optimizer, schedule=schedule)
