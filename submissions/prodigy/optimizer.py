"""Prodigy: Adam whose step length is an estimate of the distance to the solution, which only grows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import GroupOptimizer, renew_second_moments, with_gradients


class Prodigy(GroupOptimizer):
    """Adam without bias corrections under an estimated distance ``d``.

    For gradient ``g``, initial weights ``w0`` and ``q = d lr``, with sums over all parameters::

        N = sqrt(b2) N + d/d0 q sum(g (w0 - w));  s = sqrt(b2) s + d/d0 q g
        m = b1 m + (1 - b1) d g;  v = b2 v + (1 - b2) d^2 g^2
        d' = max(d, N / sum|s|);  w = w - q weight_decay w - q m / (sqrt(v) + d' eps)

    The step has the old estimate. ``d`` and ``N`` are on the device: nothing waits for it. State: 16 bytes a parameter.

    Args:
        params: Parameters; one group.
        lr: A factor of ``d``.
        betas: ``b1`` and ``b2``.
        eps: Added to the root, times ``d'``.
        weight_decay: Decoupled: multiplied by ``q``.
        initial_distance: ``d0``, below the distance to the solution.

    Source: Mishchenko and Defazio (2023), arXiv 2306.06101; konstmish/prodigy 1.1.2. ``pytorch_optimizer.Prodigy`` with
    ``bias_correction=False`` is the same rule, but waits for the device twice in each step.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        initial_distance: float = 1e-6,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._initial_distance = initial_distance
        device = self.param_groups[0]["params"][0].device
        self.distance = torch.tensor(initial_distance, dtype=torch.float64, device=device)
        self._numerator = torch.zeros((), dtype=torch.float64, device=device)

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the estimate."""
        return {**super().state_dict(), "distance": self.distance, "numerator": self._numerator}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore all of it."""
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self.distance.copy_(state_dict["distance"])
        self._numerator.copy_(state_dict["numerator"])

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = with_gradients(group)
        if not parameters:
            return
        # In the parameters' dtype: a number of float64 would make float64 of parameters without dimensions.
        old = self.distance.to(parameters[0].dtype)
        rate = old * group["lr"]
        scaled = list(torch._foreach_mul(gradients, old))
        first, second = self._buffers("first_moment", parameters), self._buffers("second_moment", parameters)
        torch._foreach_lerp_(first, scaled, 1 - group["betas"][0])
        renew_second_moments(second, scaled, decay=group["betas"][1])
        self._renew_distance(group, parameters, gradients, scaled)

        # With both divided by d': adding a tensor to lists would wait for it.
        new = self.distance.to(old.dtype)
        divisors = list(torch._foreach_sqrt(second))
        torch._foreach_div_(divisors, new)
        torch._foreach_add_(divisors, group["eps"])
        steps = list(torch._foreach_div(first, divisors))
        torch._foreach_mul_(steps, rate / new)
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_sub_(parameters, steps)

    def _renew_distance(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], scaled: list[Tensor]
    ) -> None:
        """Fold in gradients and gradients times the distance; the latter are changed."""
        decay = group["betas"][1] ** 0.5
        weight = self.distance * group["lr"] / self._initial_distance
        ways = list(torch._foreach_sub(self._starting_from("initial", parameters), parameters))
        torch._foreach_mul_(ways, gradients)
        product = torch.stack([way.sum() for way in ways]).double().sum()
        self._numerator.mul_(decay).add_(self.distance * weight * product)
        traces = self._buffers("trace", parameters)
        torch._foreach_mul_(scaled, weight.to(scaled[0].dtype))
        torch._foreach_mul_(traces, decay)
        torch._foreach_add_(traces, scaled)
        length = torch.stack(torch._foreach_norm(traces, 1)).double().sum()
        estimate = torch.where(length > 0, self._numerator / length, self.distance)
        self.distance.copy_(torch.maximum(self.distance, estimate))
