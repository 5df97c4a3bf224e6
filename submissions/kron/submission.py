"""PSGD Kron for every parameter, at one point."""

from __future__ import annotations

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import RateAndDecay
from perfbench.api.schedules import WarmupCosine
from submissions.kron.optimizer import Kron

Hyperparameters = RateAndDecay
"""One point of the search space; the decay is of tensors of two or more dimensions."""


POINT = Hyperparameters(learning_rate=3e-4, weight_decay=0.0)
WARMUP_FACTOR = 0.02
"""Of the step hint."""


def build(context: TrainingContext, hyperparameters: Hyperparameters = POINT) -> GradientSubmission:
    """Return Kron."""
    point, horizon = hyperparameters, context.step_hint
    parameters = list(context.model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": point.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = Kron([group for group in groups if group["params"]], seed=context.seed)
    schedule = WarmupCosine(point.learning_rate, horizon=horizon, warmup=int(WARMUP_FACTOR * horizon))
    return GradientSubmission(context, [optimizer], schedule=schedule)
