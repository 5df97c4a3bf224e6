"""The competition's baseline: NAdamW with warm-up and cosine decay over the whole step budget."""

from __future__ import annotations

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import AdamPoint, FirstMoment, MomentCorrection, nadamw_at, submission_at
from perfbench.api.schedules import WarmupCosine
from perfbench.spec.base import Spec

Hyperparameters = AdamPoint
"""One point of the search space."""


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection = MomentCorrection.AS_RUN


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return NAdamW; weight decay acts on every parameter, as in the competition."""
    point = hyperparameters
    first_moment = FirstMoment(correction=options.first_moment)
    optimizer = nadamw_at(point, context.model.parameters(), first_moment=first_moment)
    schedule = WarmupCosine(
        peak=point.learning_rate,
        horizon=context.step_hint,
        warmup=int(point.warmup_factor * context.step_hint),
    )
    return submission_at(point, context, optimizer, schedule=schedule)
