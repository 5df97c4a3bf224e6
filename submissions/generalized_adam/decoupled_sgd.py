"""Momentum SGD whose weight decay stays out of the momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class DecoupledSGD(Optimizer):
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

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update_group(group)
        return loss

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["trace"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        traces = [self.state[parameter]["trace"] for parameter in parameters]
        torch._foreach_mul_(traces, group["momentum"])
        torch._foreach_add_(traces, gradients)
        direction = traces
        if group["nesterov"]:
            direction = list(torch._foreach_add(gradients, traces, alpha=group["momentum"]))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, direction, alpha=-group["lr"])
