"""Amos: decay and rate of each tensor from the scale that its weights are expected to have.

Source: Tian and Parikh (2022), "Amos: An Adam-style Optimizer with Adaptive Weight Decay", arXiv 2210.11693, in the
later form that the competition's entry used (two styles, an extra L2 term).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from perfbench.api.optim import GroupOptimizer, with_gradients

_TINY = torch.finfo(torch.float32).tiny


class Style(StrEnum):
    """What is kept of the second moment."""

    ADAM = "adam"
    """All of it, and momentum of the gradient."""
    REDUCED = "reduced"
    """Its mean over the reduced dimensions, and momentum of the update."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """How one tensor is seen.

    Args:
        shape: The tensor's view.
        reduced_dims: Dimensions of the view over which one value is kept.
        eta: Expected scale of the weights.
    """

    shape: tuple[int, ...]
    reduced_dims: tuple[int, ...]
    eta: float

    def num_reduced(self) -> int:
        """Return how many weights share one value."""
        return math.prod(self.shape[dim] for dim in self.reduced_dims)

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean over the reduced dimensions, which stay with size one."""
        return tensor.mean(dim=self.reduced_dims, keepdim=True) if self.reduced_dims else tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class AmosSettings:
    """The numbers of the method."""

    style: Style
    beta1: float
    beta2: float
    l2: float


def tau(sharing: float) -> float:
    """Return the constant of a tensor in which ``sharing**2`` weights share one value.

    >>> round(tau(math.sqrt(6)), 10)
    1.5669670864
    """
    q = math.sqrt(max(1 - 1 / sharing, 0.0))
    return q * math.log(sharing * (1 + q) ** 2)


def global_rate(most_shared: int, horizon: float) -> float:
    """Return the constant part of the rate.

    Args:
        most_shared: Largest number of weights that share one value, over the model.
        horizon: Updates until convergence.
    """
    return math.sqrt(2 * (tau(math.sqrt(most_shared)) + math.sqrt(2) - 1) / horizon)


class Amos(GroupOptimizer):
    """Both styles; the group's ``lr`` is the global rate.

    Args:
        parameters: With how each is seen.
        settings: The numbers of the method.
        lr: Global rate.
    """

    def __init__(
        self, parameters: Sequence[tuple[nn.Parameter, Treatment]], settings: AmosSettings, *, lr: float
    ) -> None:
        super().__init__([parameter for parameter, _ in parameters], {"lr": lr, "num_updates": 0})
        self._settings = settings
        self._treatments: dict[Tensor, Treatment] = dict(parameters)
        for parameter, treatment in parameters:
            view = parameter.detach().reshape(treatment.shape)
            small = treatment.mean(torch.zeros_like(view))
            is_full = settings.style is Style.ADAM
            self.state[parameter] = {
                "momentum": torch.zeros_like(view),
                "second_moment": torch.zeros_like(view if is_full else small),
                "decay": torch.zeros_like(small),
            }

    def _update_group(self, group: dict[str, Any]) -> None:
        """Update all parameters that have a gradient, its global norm clipped to one."""
        parameters, gradients = with_gradients(group)
        if not parameters:
            return
        group["num_updates"] += 1
        divisor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).clamp(min=1.0)
        for parameter, whole_gradient in zip(parameters, gradients, strict=True):
            treatment = self._treatments[parameter]
            gradient = whole_gradient.reshape(treatment.shape) / divisor
            weights = parameter.detach().reshape(treatment.shape)
            change = self._change(treatment, self.state[parameter], gradient, weights)
            parameter.add_(change.reshape(parameter.shape))

    def _change(self, treatment: Treatment, state: dict[str, Tensor], gradient: Tensor, weights: Tensor) -> Tensor:
        settings, is_adam = self._settings, self._settings.style is Style.ADAM
        rate, count = self.param_groups[0]["lr"], self.param_groups[0]["num_updates"]
        gradient, square = self._tamed(state["second_moment"], gradient, count)
        direction, gamma = self._direction(treatment, state, gradient, square, count)

        sharing = math.sqrt(treatment.num_reduced())
        constant = tau(sharing)
        end = 1 + settings.l2 * ((1 + constant / 2) ** 2 - 1) ** 2
        decay = state["decay"]
        sigma = (1 + decay).sqrt()
        chi = rate**2 / (torch.maximum(gamma, sigma) if is_adam else sigma)
        decay.add_(chi * ((gamma if is_adam else 1.0) / sharing + decay))
        now = 1 + settings.l2 * decay * decay
        pull = -0.5 * chi * (end / now * gamma + settings.l2)
        bend = (2 * sigma / (1 + (1 + 2 * sigma / (2 + constant)).sqrt())) ** 2 - 1
        ratio = (1 + settings.l2 * decay * bend) / (1 + settings.l2 * now / end)
        change: Tensor = (pull * weights - treatment.eta * rate * direction) / (
            1 + treatment.eta * sigma * ratio * bend
        )
        if is_adam:
            return change
        momentum: Tensor = state["momentum"].lerp_(change, 1 - settings.beta1)
        return momentum

    def _tamed(self, second: Tensor, gradient: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return gradient and square, limited where the square is far above its average so far."""
        square = gradient * gradient
        if count == 1:
            return gradient, square
        beta2 = self._settings.beta2
        expected = second * (1 - beta2) / (1 - beta2 ** (count - 1))
        excess = torch.where(expected > 0, square * (1 - beta2) / expected, 1.0).clamp(min=1.0)
        return gradient / excess.sqrt(), square / excess

    def _direction(
        self, treatment: Treatment, state: dict[str, Tensor], gradient: Tensor, square: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """Update the moments; return the direction and the signal's share in it."""
        beta1, beta2 = self._settings.beta1, self._settings.beta2
        second = state["second_moment"]
        correction = (1 - beta2) / (1 - beta2**count)
        if self._settings.style is Style.ADAM:
            momentum = state["momentum"].lerp_(gradient, 1 - beta1)
            expected = second.mul_(beta2).add_(square) * correction
            share = treatment.mean(momentum * momentum) / treatment.mean(expected).clamp(min=_TINY)
            return momentum / expected.clamp(min=_TINY).sqrt(), (1 + beta1) / (1 - beta1) * share
        power = treatment.mean(square)
        expected = (second.mul_(beta2).add_(power) * correction).clamp(min=_TINY)
        return gradient / expected.sqrt(), power / expected
