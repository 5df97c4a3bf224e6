"""Momentum SGD whose weight decay stays out of the momentum."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import GroupOptimizer, with_gradients


class DecoupledSGD(GroupOptimizer):
    """Heavy ball or Nesterov, no dampening, no bias correction, decoupled decay.

    ``torch.optim.SGD`` adds the decay to the gradient, so that it enters the momentum. Here, for gradient ``g``::

        m = b m + g;  u = g + b m (Nesterov) or m;  w = w - lr (u + weight_decay w)

    State: 4 bytes per parameter.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        momentum: Decay of the trace, ``b``.
        weight_decay: Multiplied by the learning rate.
        nesterov: Whether to look one step ahead.
    """

    def __init__(
        self, params: ParamsT, lr: float, *, momentum: float, weight_decay: float = 0.0, nesterov: bool = True
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, defaults)

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = with_gradients(group)
        if not parameters:
            return
        traces = self._buffers("trace", parameters)
        torch._foreach_mul_(traces, group["momentum"])
        torch._foreach_add_(traces, gradients)
        direction = traces
        if group["nesterov"]:
            direction = list(torch._foreach_add(gradients, traces, alpha=group["momentum"]))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, direction, alpha=-group["lr"])
