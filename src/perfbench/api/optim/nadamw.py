"""NAdamW as the competition's entries defined it.

``torch.optim.NAdam(decoupled_weight_decay=True)`` is another algorithm (it follows Dozat's schedule of momentum).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT


class NAdamW(Optimizer):
    """Adam with Nesterov momentum and decoupled weight decay.

    For gradient ``g`` at update ``t`` (from 1)::

        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
        d = ((b1 m + (1 - b1) g) / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
        w = w - lr (d + weight_decay w)

    The bias correction counts one factor of ``b1`` less than the Nesterov term contains, so the first update is
    ``(1 + b1) lr`` long: as in the competition. State: 8 bytes per parameter; nothing waits for the device.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        betas: Decay of first and second moment.
        eps: Added to the root.
        weight_decay: Decoupled: multiplied by the learning rate.

    Source: AlgoPerf v0.5, baseline submission (identical to ``timm.optim.NAdamW``).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not (lr >= 0 and eps >= 0 and weight_decay >= 0 and all(0 <= beta < 1 for beta in betas)):
            msg = f"out of range: {lr=}, {betas=}, {eps=}, {weight_decay=}"
            raise ValueError(msg)
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "num_updates": 0}
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
        first, second = self._moments(parameters)
        beta1, beta2 = group["betas"]
        group["num_updates"] += 1
        correction1 = 1 - beta1 ** group["num_updates"]
        correction2 = 1 - beta2 ** group["num_updates"]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        direction = torch._foreach_lerp(first, gradients, 1 - beta1)
        scale = torch._foreach_sqrt(second)
        torch._foreach_div_(scale, correction2**0.5)
        torch._foreach_add_(scale, group["eps"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, direction, scale, -group["lr"] / correction1)

    def _moments(self, parameters: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        first, second = [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["first_moment"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state["second_moment"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            first.append(state["first_moment"])
            second.append(state["second_moment"])
        return first, second
