"""Prodigy at one point: nothing to tune but the weight decay."""

from __future__ import annotations

import dataclasses

from perfbench.api import Batch, GradientSubmission, Schedule, StepReport, TrainingContext
from perfbench.api.optim import RateAndDecay
from perfbench.api.schedules import WarmupCosine
from submissions.prodigy.optimizer import Prodigy

Hyperparameters = RateAndDecay
"""One point of the search space; the rate is a factor of the estimated distance."""


POINT = Hyperparameters(learning_rate=1.0, weight_decay=0.0)


class EstimatedDistance(GradientSubmission):
    """An ordinary step that also tells the estimated distance."""

    def __init__(self, context: TrainingContext, optimizer: Prodigy, *, schedule: Schedule) -> None:
        super().__init__(context, [optimizer], schedule=schedule)
        self._optimizer = optimizer

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step."""
        report = super().update_params(batch)
        return dataclasses.replace(report, extra={"distance": self._optimizer.distance.clone()})


def build(context: TrainingContext, hyperparameters: Hyperparameters = POINT) -> EstimatedDistance:
    """Return Prodigy under a cosine; weight decay acts on every parameter."""
    point = hyperparameters
    optimizer = Prodigy(context.model.parameters(), weight_decay=point.weight_decay)
    return EstimatedDistance(
        context, optimizer, schedule=WarmupCosine(point.learning_rate, horizon=context.step_hint, warmup=0)
    )
