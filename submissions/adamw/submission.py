"""AdamW with warm-up and cosine decay: the shortest complete submission, and the one to copy."""

from __future__ import annotations

import torch
from pydantic import Field

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.schedules import WarmupPeriodicCosine
from perfbench.spec.base import Spec


class Hyperparameters(Spec):
    """One point of the search space."""

    learning_rate: float = Field(gt=0)
    one_minus_beta1: float = Field(gt=0, le=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_factor: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)


def build(context: TrainingContext, hyperparameters: Hyperparameters) -> GradientSubmission:
    """Return AdamW under one schedule."""
    point, horizon = hyperparameters, context.step_hint
    betas = (1 - point.one_minus_beta1, point.beta2)
    optimizer = torch.optim.AdamW(context.model.parameters(), betas=betas, weight_decay=point.weight_decay, fused=True)
    return GradientSubmission(
        context,
        [optimizer],
        schedule=WarmupPeriodicCosine(point.learning_rate, horizon=horizon, warmup=point.warmup_factor * horizon),
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )
