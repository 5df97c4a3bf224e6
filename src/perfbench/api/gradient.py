"""What nearly all submissions share: forward, global mean, backward, clipping, schedule, state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import nn

from perfbench.api.submission import StateDict, StepReport, TrainingContext
from perfbench.api.workload import Batch
from perfbench.errors import SubmissionError

Schedule = Callable[[int], float]
"""Learning rate of update ``k``, counted from 0."""


class GradientSubmission:
    """One forward and backward pass per step, then every optimizer, under one learning-rate schedule.

    Args:
        context: What the engine offers.
        optimizers: Stepped in order. A group's ``lr_scale`` (default 1) multiplies the scheduled rate.
        schedule: Sets every group's rate before each update; ``None`` leaves the optimizers' own.
        label_smoothing: Given to the loss; workloads without smoothing ignore it.
        dropout_rate: Set on the model once; ``None`` keeps the workload's default.
        max_grad_norm: Clip the global gradient norm to this; ``None`` for no clipping.
    """

    state_is_sharded: ClassVar[bool] = False

    def __init__(
        self,
        context: TrainingContext,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        schedule: Schedule | None = None,
        label_smoothing: float = 0.0,
        dropout_rate: float | None = None,
        max_grad_norm: float | None = None,
    ) -> None:
        self.context = context
        self.optimizers = list(optimizers)
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.max_grad_norm = max_grad_norm
        self.num_updates = 0
        self._parameters = list(context.model.parameters())  # walking the modules in every step would cost time
        if dropout_rate is not None:
            context.set_dropout(dropout_rate)

    def data_selection(self, batches: Iterator[Batch]) -> Batch:
        """Take the next batch."""
        return next(batches)

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step on the gradient of the global mean loss.

        Raises:
            SubmissionError: If it is given no batch: then ``data_selection`` chose none.
        """
        if type(batch) is not dict:
            raise SubmissionError(
                f"it returned {type(batch).__name__}, no batch",
                where="data_selection",
                hint="return what next(batches) gave, or a dictionary of tensors made from it",
            )
        loss = self._backward(batch)
        grad_norm = self._clip()
        learning_rate = self._set_learning_rate()
        for optimizer in self.optimizers:
            optimizer.step()
        self.num_updates += 1
        return StepReport(loss=loss, grad_norm=grad_norm, learning_rate=learning_rate)

    def prepare_for_eval(self) -> nn.Module:
        """Evaluate the training weights."""
        return self.context.model

    def resume_training(self) -> None:
        """Do nothing: evaluation did not change the weights."""

    def state_dict(self) -> StateDict:
        """Return the update count and every optimizer's state."""
        return {
            "num_updates": self.num_updates,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the update count and every optimizer's state."""
        self.num_updates = state["num_updates"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _backward(self, batch: Batch) -> torch.Tensor:
        """Renew all gradients at the weights as they are; return the loss there, detached."""
        for parameter in self._parameters:
            parameter.grad = None
        loss = self.context.global_mean(self.context.loss(batch, label_smoothing=self.label_smoothing))
        loss.backward()
        return loss.detach()

    def _clip(self) -> torch.Tensor | None:
        if self.max_grad_norm is None:
            return None
        return nn.utils.clip_grad_norm_(self.context.model.parameters(), self.max_grad_norm)

    def _set_learning_rate(self) -> float | None:
        if self.schedule is None:
            return None
        rate = self.schedule(self.num_updates)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
        return rate
