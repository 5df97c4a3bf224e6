"""Prodigy's estimate of the distance to the solution as the step length of a Schedule-Free method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import ExtrapolatingOptimizer

INITIAL_DISTANCE = 1e-6
BETAS = (0.9, 0.9955)
STEP_POWER = 0.75
EPSILON = 1e-8


class ScheduleFreeProdigy(ExtrapolatingOptimizer):
    """``z`` takes steps of a length ``d`` that only grows, ``x`` averages it, ``y`` between is where the gradient is.

    Between steps the parameters hold ``x``. ``extrapolate``, before the forward pass, moves all of them to ``y``;
    ``step``, after the backward pass, brings all of them to the new ``x``. With ``lr`` as a multiplier of ``d`` and
    sums over all parameters::

        N = sqrt(b2) N + d^2 lr sum(g (p0 - z));  v = b2 v + (1 - b2) d^2 g^2;  s = sqrt(b2) s + d lr d g
        d' = max(d, N / sum|s|)
        z = z - weight_decay d lr x - d' d lr g / (sqrt(v) + d' eps)
        x = (1 - c) x + c z,  c = t^0.75 / (1 + 2^0.75 + ... + t^0.75)

    The step of ``z`` mixes both estimates, as the entry does. With ``mixes_distances=False`` it has ``d`` in place of
    ``d'``, as in Prodigy's paper (arXiv 2306.06101, its form of Adam): as ``v`` is of gradients times ``d``, such a
    step is about ``d lr`` long.

    Nothing waits for the device: ``d`` and ``N`` are tensors on it.

    Args:
        params: Parameters; one group.
        weight_decay: Multiplied by ``d lr``, proportional to ``x``.
        buffer_dtype: Of ``v``, ``s`` and the initial weights ``p0``. Those in bfloat16 differ from ``z`` from the
            start, which makes the first estimates of ``d`` noisy.
        mixes_distances: Whether ``z``'s step has the new estimate besides the old one.
    """

    def __init__(
        self, params: ParamsT, *, weight_decay: float, buffer_dtype: torch.dtype, mixes_distances: bool = True
    ) -> None:
        super().__init__(params, {"lr": 1.0, "weight_decay": weight_decay, "num_updates": 0, "weight_sum": 0.0})
        self._mixes_distances = mixes_distances
        self._averages: list[Tensor] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = {
                    "iterate": parameter.detach().clone(memory_format=torch.preserve_format),
                    "initial": parameter.detach().to(buffer_dtype, copy=True),
                    "second_moment": torch.zeros_like(parameter, dtype=buffer_dtype),
                    "trace": torch.zeros_like(parameter, dtype=buffer_dtype),
                }
        device = self.param_groups[0]["params"][0].device
        self.distance = torch.tensor(INITIAL_DISTANCE, dtype=torch.float64, device=device)
        self.numerator = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def extrapolate(self) -> None:
        """Move the parameters from ``x`` to ``y``; ``x`` is kept aside."""
        parameters = self.param_groups[0]["params"]
        self._averages = [parameter.detach().clone() for parameter in parameters]
        torch._foreach_lerp_(parameters, self._all("iterate"), 1 - BETAS[0])

    def _update_group(self, group: dict[str, Any]) -> None:
        everything: list[Tensor] = group["params"]
        torch._foreach_copy_(everything, self._averages)
        self._averages = []
        parameters = [parameter for parameter in everything if parameter.grad is not None]
        old, new = self._estimate(parameters, multiplier=group["lr"])
        group["num_updates"] += 1
        weight = group["num_updates"] ** STEP_POWER
        group["weight_sum"] += weight
        rate, distance = old * group["lr"], new if self._mixes_distances else old
        for parameter in parameters:
            state = self.state[parameter]
            assert parameter.grad is not None, "chosen above"
            scale = state["second_moment"].sqrt().add_(distance * EPSILON)
            state["iterate"].sub_(parameter * (group["weight_decay"] * rate))
            state["iterate"].sub_(parameter.grad * (distance * rate) / scale)
            parameter.lerp_(state["iterate"], weight / group["weight_sum"])

    def state_dict(self) -> dict[str, object]:
        """Return all buffers, each in its own dtype, and the estimate."""
        (group,) = self.param_groups
        return {
            "buffers": [dict(self.state[parameter]) for parameter in group["params"]],
            "distance": self.distance,
            "numerator": self.numerator,
            "group": {name: value for name, value in group.items() if name != "params"},
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Restore all of it in place."""
        (group,) = self.param_groups
        buffers, options = state_dict["buffers"], state_dict["group"]
        assert isinstance(buffers, list), "written by state_dict"
        assert isinstance(options, dict), "written by state_dict"
        for parameter, saved in zip(group["params"], buffers, strict=True):
            for name, tensor in self.state[parameter].items():
                tensor.copy_(saved[name])
        for live, name in ((self.distance, "distance"), (self.numerator, "numerator")):
            value = state_dict[name]
            assert isinstance(value, Tensor), "written by state_dict"
            live.copy_(value)
        group.update(options)

    def _estimate(self, parameters: Sequence[Tensor], *, multiplier: float) -> tuple[Tensor, Tensor]:
        """Update moments and the estimate; return the old and the new distance."""
        old = self.distance.clone()
        rate, root = old * multiplier, BETAS[1] ** 0.5
        products, lengths = [], []
        for parameter in parameters:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None, "the caller chose those that have one"
            products.append(torch.sum(gradient * (state["initial"] - state["iterate"])).double())
            state["second_moment"].mul_(BETAS[1]).add_(gradient * gradient * (old * old * (1 - BETAS[1])))
            state["trace"].mul_(root).add_(gradient * (old * rate))
            lengths.append(state["trace"].abs().sum().double())
        if parameters:
            self.numerator.mul_(root).add_(old * rate * torch.stack(products).sum())
            total = torch.stack(lengths).sum()
            estimate = torch.where(total > 0, self.numerator / total, old)
            self.distance.copy_(torch.maximum(old, estimate))
        return old, self.distance

    def _all(self, name: str) -> list[Tensor]:
        return [self.state[parameter][name] for parameter in self.param_groups[0]["params"]]
