"""LAWA with an exponential average: NAdamW evaluated at it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from perfbench.api import Behaviour, StateDict, TrainingContext
from perfbench.api.optim import AveragedOptions, AveragedPoint, AveragingSubmission, averaged_nadamw


class Hyperparameters(AveragedPoint):
    """One point of the search space, named as in the competition."""

    lawa_beta: float = Field(ge=0, le=1)
    """Decay of the average, from one snapshot to the next."""


class Options(AveragedOptions):
    """Behaviours as run or as intended."""

    average: Behaviour
    """As run: the decay is truncated to a whole number, so the average is the latest snapshot. As intended: the
    point's decay."""


class ExponentialAverage:
    """``e = decay e + (1 - decay) snapshot``; the first snapshot starts it."""

    def __init__(self, decay: float, device: torch.device) -> None:
        self._decay = decay
        self._device = device
        self._average: list[Tensor] | None = None

    def add(self, weights: Sequence[Tensor]) -> None:
        """Fold a snapshot in."""
        if self._average is None:
            self._average = [tensor.clone() for tensor in weights]
        else:
            torch._foreach_lerp_(self._average, list(weights), 1 - self._decay)

    def value(self) -> list[Tensor] | None:
        """Return the average, or ``None`` before the first snapshot."""
        return self._average

    def state_dict(self) -> StateDict:
        """Return the average."""
        return {"average": self._average}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the average."""
        saved = state["average"]
        self._average = None if saved is None else [tensor.to(self._device, copy=True) for tensor in saved]


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> AveragingSubmission:
    """Return NAdamW with its average."""
    decay = hyperparameters.lawa_beta
    if options.average is Behaviour.AS_RUN:
        decay = float(int(decay))
    return averaged_nadamw(context, hyperparameters, ExponentialAverage(decay, context.device), options=options)
