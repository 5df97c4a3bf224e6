"""NadamP: NAdamW whose second moment is taken to the root of the point's power."""

from __future__ import annotations

from pydantic import Field

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import CosineFractionPoint, FirstMoment, MomentCorrection, nadamw_at, submission_at
from perfbench.spec.base import Spec


class Hyperparameters(CosineFractionPoint):
    """One point of the search space, named as in the competition."""

    power: float = Field(gt=0)


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return NAdamW with the point's root; weight decay acts on every parameter."""
    point = hyperparameters
    first_moment = FirstMoment(nesterov=point.nesterov, correction=options.first_moment)
    optimizer = nadamw_at(point, context.model.parameters(), first_moment=first_moment, power=point.power)
    return submission_at(point, context, optimizer, schedule=point.schedule(context.step_hint))
