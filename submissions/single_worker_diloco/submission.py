"""Single-worker DiLoCo at the point of the self-tuning entry: AdamW that a slow Nesterov step calls back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perfbench.api import Batch, Schedule, StateDict, StepReport, TrainingContext
from perfbench.api.optim import EvaluatesOtherWeights
from perfbench.api.schedules import WarmupCosine
from submissions.single_worker_diloco.slow_weights import SlowWeights

LEARNING_RATE = 0.000955
BETAS = (0.99, 0.995)
WEIGHT_DECAY = 0.2424
OUTER_RATE = 0.3006
OUTER_MOMENTUM = 0.7675
OUTER_PERIOD = 75


class Diloco(EvaluatesOtherWeights):
    """Trains fast weights, which slow ones call back at regular steps; evaluates the slow ones.

    Args:
        context: What the engine offers.
        optimizer: Of the fast weights; never reset.
        slow_weights: Of the same parameters.
        period: Updates from one call to the next.
        schedule: The rate of update ``k`` of the fast weights.
    """

    def __init__(
        self,
        context: TrainingContext,
        optimizer: torch.optim.Optimizer,
        slow_weights: SlowWeights,
        *,
        period: int,
        schedule: Schedule,
    ) -> None:
        super().__init__(context, [optimizer], schedule=schedule, dropout_rate=0.0)
        self.slow_weights = slow_weights
        self._period = period

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step of the fast weights, and one of the slow ones where it is due."""
        report = super().update_params(batch)
        if self.num_updates % self._period == 0:
            self.slow_weights.call_back(self._weights())
        return report

    def state_dict(self) -> StateDict:
        """Return the states of both loops; the model's own weights are the fast ones."""
        return {**super().state_dict(), "slow_weights": self.slow_weights.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore both loops."""
        super().load_state_dict(state)
        self.slow_weights.load_state_dict(state["slow_weights"])

    def _evaluated_weights(self) -> Sequence[Tensor]:
        return self.slow_weights.value()


def build(context: TrainingContext) -> Diloco:
    """Return DiLoCo; weight decay acts on every parameter, as in the entry."""
    parameters = list(context.model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)
    slow_weights = SlowWeights(
        [parameter.detach() for parameter in parameters], rate=OUTER_RATE, momentum=OUTER_MOMENTUM
    )
    schedule = WarmupCosine(LEARNING_RATE, horizon=context.step_hint, warmup=0)
    return Diloco(context, optimizer, slow_weights, period=OUTER_PERIOD, schedule=schedule)
