"""Schedule-Free+ at one point: no learning rate and no schedule but a warm-up."""

from __future__ import annotations

import dataclasses

import torch

from perfbench.api import Batch, Behaviour, StepReport, TrainingContext
from perfbench.api.optim import RateAndDecay, ScheduleFreeSubmission, StatisticsPass
from perfbench.api.schedules import WarmupConstant
from perfbench.spec.base import Spec
from submissions.schedule_free_plus.optimizer import AveragingSettings, ScheduleFreePlus

Hyperparameters = RateAndDecay
"""One point of the search space; the rate is a factor of the step length that the loss gives."""


class Options(Spec):
    """What is fixed, but not by the method."""

    rate_average: Behaviour = Behaviour.AS_INTENDED
    """The average of gradient norms. As run by the published class: its bias is corrected again in each update. As
    intended: once."""
    statistics_pass: StatisticsPass = StatisticsPass.ONE_OF_THREE
    """On which steps batch-norm statistics are collected at the average that is evaluated."""


POINT = Hyperparameters(learning_rate=0.1, weight_decay=0.0)
WARMUP_FACTOR = 0.02
"""Of the step hint."""
RATE_DECAY = 0.9


class LossGuided(ScheduleFreeSubmission):
    """Schedule-Free training that gives the optimizer the loss of each step."""

    optimizer: ScheduleFreePlus

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step on the gradient at the extrapolated weights."""
        report = super().update_params(batch)
        return dataclasses.replace(report, extra={"step_length": self.optimizer.rate})

    def _backward(self, batch: Batch) -> torch.Tensor:
        loss = super()._backward(batch)
        self.optimizer.take_loss(self.context.add_over_ranks(loss) / self.context.shard.num_ranks)
        return loss


def build(context: TrainingContext, hyperparameters: Hyperparameters = POINT, *, options: Options) -> LossGuided:
    """Return Schedule-Free+; weight decay acts on every parameter."""
    point, warmup = hyperparameters, int(WARMUP_FACTOR * context.step_hint)
    settings = AveragingSettings(
        rate_decay=RATE_DECAY, num_skipped=2 * warmup, corrects_once=options.rate_average is Behaviour.AS_INTENDED
    )
    optimizer = ScheduleFreePlus(context.model.parameters(), weight_decay=point.weight_decay, settings=settings)
    return LossGuided(
        context,
        optimizer,
        schedule=WarmupConstant(point.learning_rate, warmup=warmup),
        statistics_pass=options.statistics_pass,
    )
