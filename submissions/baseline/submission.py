"""The competition's baseline: NAdamW with warm-up and cosine decay over the whole step budget."""

from __future__ import annotations

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import AdamPoint, NAdamW
from perfbench.api.schedules import WarmupCosine


class Hyperparameters(AdamPoint):
    """One point of the search space, named as in the competition."""


def build(context: TrainingContext, hyperparameters: Hyperparameters) -> GradientSubmission:
    """Return NAdamW; weight decay acts on every parameter, as in the competition."""
    point = hyperparameters
    optimizer = NAdamW(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=point.betas,
        weight_decay=point.weight_decay,
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
