"""NAdamW under cycles of linear warm-up and cosine decay."""

from __future__ import annotations

from pydantic import Field

from perfbench.api import Behaviour, GradientSubmission, TrainingContext
from perfbench.api.optim import AdamPoint, FirstMoment, MomentCorrection, nadamw_at, submission_at
from perfbench.api.schedules import CyclicCosine
from perfbench.spec.base import Spec


class Hyperparameters(AdamPoint):
    """One point of the search space, named as in the competition."""

    cycles: int = Field(ge=1)


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection
    first_update: Behaviour
    """As run: at the peak rate, as the scheduler set none before it. As intended: where the warm-up starts, 1e-10."""


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return NAdamW under the cycles of the point; weight decay acts on every parameter."""
    point = hyperparameters
    first_moment = FirstMoment(correction=options.first_moment)
    optimizer = nadamw_at(point, context.model.parameters(), first_moment=first_moment)
    schedule = CyclicCosine(
        peak=point.learning_rate,
        horizon=context.step_hint,
        warmup=int(point.warmup_factor * context.step_hint),
        num_cycles=point.cycles,
        starts_at_peak=options.first_update is Behaviour.AS_RUN,
    )
    return submission_at(point, context, optimizer, schedule=schedule)
