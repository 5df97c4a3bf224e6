"""GPA-AdamW at one point."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from perfbench.api import Schedule, TrainingContext
from perfbench.api.optim import EvaluatesOtherWeights, RateAndDecay
from perfbench.api.schedules import WarmupCosine
from submissions.gpa_adamw.optimizer import AveragedAdamW

Hyperparameters = RateAndDecay
"""One point of the search space."""


POINT = Hyperparameters(learning_rate=1e-3, weight_decay=0.0)
WARMUP_FACTOR = 0.02
"""Of the step hint."""


class AveragedSubmission(EvaluatesOtherWeights):
    """Trains at one average of the iterates, evaluates another."""

    def __init__(self, context: TrainingContext, optimizer: AveragedAdamW, *, schedule: Schedule) -> None:
        super().__init__(context, [optimizer], schedule=schedule)
        self._optimizer = optimizer

    def _evaluated_weights(self) -> Sequence[Tensor]:
        return self._optimizer.evaluated()


def build(context: TrainingContext, hyperparameters: Hyperparameters = POINT) -> AveragedSubmission:
    """Return GPA over AdamW; weight decay acts on every parameter."""
    point, horizon = hyperparameters, context.step_hint
    optimizer = AveragedAdamW(context.model.parameters(), weight_decay=point.weight_decay)
    schedule = WarmupCosine(point.learning_rate, horizon=horizon, warmup=int(WARMUP_FACTOR * horizon))
    return AveragedSubmission(context, optimizer, schedule=schedule)
