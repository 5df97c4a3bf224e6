"""Schedule-Free Prodigy: no learning rate to tune, only the weight decay."""

from __future__ import annotations

import torch
from pydantic import Field

from perfbench.api import Batch, Behaviour, StepReport, TrainingContext
from perfbench.api.optim import ScheduleFreeSubmission
from perfbench.api.schedules import WarmupConstant
from perfbench.spec.base import Spec
from submissions.schedule_free_prodigy.optimizer import ScheduleFreeProdigy

LABEL_SMOOTHING = 0.2
WARMUP_FACTOR = 0.075


class Hyperparameters(Spec):
    """One point of the search space, named as in the competition."""

    weight_decay: float = Field(ge=0)


class Options(Spec):
    """Behaviours as run or as intended."""

    evaluations: Behaviour
    """As run: every step first evaluates loss and gradient at the average and discards them. As intended: it does
    not."""
    buffers: Behaviour
    """Second moment, trace and initial weights. As run: bfloat16, so that the initial weights differ from the iterate
    before there was any step. As intended: float32."""
    distances: Behaviour
    """As run: a step is the product of the old estimate and the new one. As intended: the old one throughout, as in
    Prodigy's paper."""


class Prodigy(ScheduleFreeSubmission):
    """One or two forward and backward passes, then one update."""

    optimizer: ScheduleFreeProdigy

    def __init__(self, context: TrainingContext, optimizer: ScheduleFreeProdigy, *, evaluates_twice: bool) -> None:
        schedule = WarmupConstant(peak=1.0, warmup=int(WARMUP_FACTOR * context.step_hint))
        super().__init__(context, optimizer, schedule=schedule, label_smoothing=LABEL_SMOOTHING)
        self._evaluates_twice = evaluates_twice

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step on the gradient at the extrapolated weights; report the estimated distance."""
        if self._evaluates_twice:
            self._backward(batch)
        report = super().update_params(batch)
        return StepReport(
            loss=report.loss, learning_rate=report.learning_rate, extra={"distance": self.optimizer.distance.clone()}
        )


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> Prodigy:
    """Return Schedule-Free Prodigy; weight decay acts on every parameter."""
    optimizer = ScheduleFreeProdigy(
        context.model.parameters(),
        weight_decay=hyperparameters.weight_decay,
        buffer_dtype=torch.bfloat16 if options.buffers is Behaviour.AS_RUN else torch.float32,
        mixes_distances=options.distances is Behaviour.AS_RUN,
    )
    return Prodigy(context, optimizer, evaluates_twice=options.evaluations is Behaviour.AS_RUN)
