"""SAM over AdamW: each step on the gradient of the worst weights nearby."""

from __future__ import annotations

import dataclasses
from typing import Literal

from pydantic import Field

from perfbench.api import Batch, BatchNormMode, GradientSubmission, Schedule, StepReport, TrainingContext
from perfbench.api.optim import AdamPoint
from perfbench.api.schedules import WarmupPeriodicCosine
from perfbench.spec.base import Spec
from submissions.sam.optimizer import SharpnessAwareAdamW


class Hyperparameters(AdamPoint):
    """One point of the search space."""

    rho: float = Field(ge=0)
    """How far away the gradient is taken."""


class Options(Spec):
    """What is fixed, but not by the method."""

    ascent: Literal["as_run", "guarded"] = "as_run"
    """As run, a gradient of zero is divided by its norm, zero; guarded, the weights then stay for the second one."""


class SharpnessAware(GradientSubmission):
    """Two forward and backward passes over the same batch, then one update."""

    def __init__(
        self, context: TrainingContext, optimizer: SharpnessAwareAdamW, schedule: Schedule, point: Hyperparameters
    ) -> None:
        super().__init__(
            context,
            [optimizer],
            schedule=schedule,
            label_smoothing=point.label_smoothing,
            dropout_rate=point.dropout_rate,
        )
        self._optimizer = optimizer

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step; batch-norm statistics are those of the first pass, and so are loss and norm in the report."""
        loss = self._backward(batch)
        grad_norm = self._optimizer.ascend()
        self.context.set_batch_norm(BatchNormMode.FREEZE)
        report = super().update_params(batch)
        self.context.set_batch_norm(BatchNormMode.UPDATE)
        return dataclasses.replace(report, loss=loss, grad_norm=grad_norm, extra={"loss_after_ascent": report.loss})


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> SharpnessAware:
    """Return SAM; weight decay acts on every parameter, as in the benchmark's baseline."""
    point, horizon = hyperparameters, context.step_hint
    optimizer = SharpnessAwareAdamW(
        context.model.parameters(),
        radius=point.rho,
        betas=point.betas,
        weight_decay=point.weight_decay,
        is_guarded=options.ascent == "guarded",
    )
    schedule = WarmupPeriodicCosine(point.learning_rate, horizon=horizon, warmup=int(point.warmup_factor * horizon))
    return SharpnessAware(context, optimizer, schedule, point)
