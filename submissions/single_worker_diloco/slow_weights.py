"""Weights that follow the training weights in long steps, and call them back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perfbench.api import StateDict
from perfbench.api.optim import finish_host_copies, host_copy


class SlowWeights:
    """The outer loop: Nesterov momentum, with the way of the training weights as its gradient.

    For training weights ``w``, each time that they are called back::

        d = slow - w;  b = momentum b + d
        slow = slow - rate (d + momentum b);  w = slow

    ``slow`` and ``b`` are in (pinned) host memory, 8 bytes per parameter. The arithmetic is on the device, one tensor
    after the other; all copies are in the order of the device's work, and nothing waits for them.

    Args:
        weights: Training weights, where ``slow`` starts.
        rate: Part of the way that is taken.
        momentum: Decay of ``b``.
    """

    def __init__(self, weights: Sequence[Tensor], *, rate: float, momentum: float) -> None:
        self._rate = rate
        self._momentum = momentum
        self._slow = [host_copy(tensor) for tensor in weights]
        self._momenta = [host_copy(torch.zeros_like(tensor)) for tensor in weights]

    @torch.no_grad()
    def call_back(self, weights: Sequence[Tensor]) -> None:
        """Take a step and put the training weights where it leads."""
        for training, slow_on_host, momentum_on_host in zip(weights, self._slow, self._momenta, strict=True):
            slow = slow_on_host.to(training.device, non_blocking=True)
            momentum = momentum_on_host.to(training.device, non_blocking=True)
            way = slow - training
            momentum.mul_(self._momentum).add_(way)
            slow.sub_(way.add_(momentum, alpha=self._momentum), alpha=self._rate)
            training.copy_(slow)
            slow_on_host.copy_(slow, non_blocking=True)
            momentum_on_host.copy_(momentum, non_blocking=True)

    def value(self) -> list[Tensor]:
        """Return the slow weights; finish copies before reading them on the host."""
        return self._slow

    def state_dict(self) -> StateDict:
        """Return slow weights and momenta."""
        finish_host_copies()
        return {"slow": self._slow, "momenta": self._momenta}

    @torch.no_grad()
    def load_state_dict(self, state: StateDict) -> None:
        """Restore both in place."""
        finish_host_copies()
        torch._foreach_copy_([*self._slow, *self._momenta], [*state["slow"], *state["momenta"]])
