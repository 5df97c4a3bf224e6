"""Schedule-Free+: three sequences, and a step length from the loss itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import AdamDirections, ExtrapolatingOptimizer, with_gradients

_SCALARS = ("gradient_average", "highest_rate", "weight_sum")


@dataclass(frozen=True, kw_only=True, slots=True)
class AveragingSettings:
    """How the average is made and the step length found.

    Args:
        first_share: Of ``x`` in ``y``, at the beginning.
        last_share: The same after ``num_changing`` updates.
        num_changing: 0 keeps the first.
        rate_decay: Of the average of gradient norms, ``bp``.
        num_skipped: Updates before the average begins: until then ``x`` is ``z``.
        step_power: An iterate's weight in the average grows with this power of its number.
        corrects_once: ``False``, as published, corrects the bias of the average of gradient norms again in each update.
    """

    first_share: float = 0.9
    last_share: float = 0.965
    num_changing: int = 0
    rate_decay: float = 0.0
    num_skipped: int = 0
    step_power: float = 0.0
    corrects_once: bool = True

    def share(self, k: int) -> float:
        """Return the share of ``x`` in ``y`` after update ``k``, counted from 0."""
        progress = min(k / self.num_changing, 1.0) if self.num_changing else 0.0
        first, last = math.log(1 - self.first_share), math.log(1 - self.last_share)
        return 1 - math.exp((1 - progress) * first + progress * last)


class ScheduleFreePlus(AdamDirections, ExtrapolatingOptimizer):
    """``z`` takes Adam's steps, ``x`` averages it, and ``y`` between them is where the gradient is taken.

    Between steps the parameters hold ``x``. ``extrapolate``, before the forward pass, moves them to ``y``; ``step``
    brings them to the new ``x``, after ``take_loss``. For update ``k`` (from 0), loss ``f`` and gradient ``g`` at
    ``y``, with sums over all parameters and Adam's direction ``u``::

        e = bp e + (1 - bp) sum|g| sqrt(pi / 2)
        a = lr max(0, f + s_k sum(g (z - x))) / (e / (1 - bp^(k + 1)))
        z = z - a^2 weight_decay y - a u
        x = (1 - c) x + c z;  y = s_k x + (1 - s_k) z

    ``c`` is 1 in the updates that are skipped, then ``w_k / (w_1 + ... + w_k)`` with ``w_k = (k + 1)^r max(a)^2``. All
    numbers that depend on the loss are on the device: nothing waits for it. State: 12 bytes per parameter.

    Args:
        params: Parameters; one group.
        lr: A factor of the step length.
        betas: Decay of both moments.
        eps: Added to the root.
        weight_decay: Multiplied by the square of the step length.
        settings: All else.

    Source: Defazio (2026), arXiv 2605.19095; class ``AdamCScheduleFreePlusPaper`` of facebookresearch/schedule_free as
    of 2026-07.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        settings: AveragingSettings = AveragingSettings(),
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "num_updates": 0}
        super().__init__(params, defaults)
        self.settings = settings
        device = self.param_groups[0]["params"][0].device
        self._loss = torch.zeros((), device=device)
        self.rate = torch.zeros((), dtype=torch.float64, device=device)
        self._scalars = {name: torch.zeros((), dtype=torch.float64, device=device) for name in _SCALARS}

    @torch.no_grad()
    def extrapolate(self) -> None:
        """Move the parameters from ``x`` to ``y``."""
        (group,) = self.param_groups
        parameters = list(group["params"])
        torch._foreach_lerp_(parameters, self._starting_from("iterate", parameters), 1 - self._share_at_gradient(group))

    def take_loss(self, loss: Tensor) -> None:
        """Keep the loss at ``y``, a scalar, the mean over all ranks, for the next step."""
        self._loss = loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the numbers that are on the device."""
        return {**super().state_dict(), "scalars": dict(self._scalars)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore all of it."""
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        for name, scalar in self._scalars.items():
            scalar.copy_(state_dict["scalars"][name])

    def _update_group(self, group: dict[str, Any]) -> None:
        everything = list(group["params"])
        parameters, gradients = with_gradients(group)
        before = self._share_at_gradient(group)
        self.rate = self._step_length(group, parameters, gradients)
        averaged = self._share_in_average(group)
        # In the parameters' dtype: a number of float64 would make float64 of parameters without dimensions.
        rate, averaged = (number.to(everything[0].dtype) for number in (self.rate, averaged))
        decay = torch._foreach_mul(parameters, group["weight_decay"] * rate.square())
        torch._foreach_lerp_(everything, self._starting_from("iterate", everything), 1 - 1 / before)  # from y back to x
        if not parameters:
            return
        directions = self._adam_directions(group, parameters, gradients)
        torch._foreach_mul_(directions, rate)
        iterates = self._starting_from("iterate", parameters)
        torch._foreach_sub_(iterates, decay)
        torch._foreach_sub_(iterates, directions)
        ways = torch._foreach_sub(iterates, parameters)
        torch._foreach_mul_(ways, averaged)
        torch._foreach_add_(parameters, ways)

    def _share_at_gradient(self, group: dict[str, Any]) -> float:
        """Return the share of ``x`` in the present ``y``."""
        return self.settings.share(max(group["num_updates"] - 1, 0))

    def _step_length(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> Tensor:
        k, settings, average = group["num_updates"], self.settings, self._scalars["gradient_average"]
        if not parameters:
            return torch.zeros_like(self.rate)
        length = torch.stack(torch._foreach_norm(gradients, 1)).double().sum()
        ways = list(
            torch._foreach_sub(self._starting_from("iterate", parameters), parameters)
        )  # s (z - x), s of this y
        torch._foreach_mul_(ways, gradients)
        product = torch.stack([way.sum() for way in ways]).double().sum()
        gain = settings.share(k) / self._share_at_gradient(group) * product
        average.mul_(settings.rate_decay).add_((1 - settings.rate_decay) * math.sqrt(math.pi / 2) * length)
        corrected = average / (1 - settings.rate_decay ** (k + 1))
        if not settings.corrects_once:
            average.copy_(corrected)
        rate: Tensor = group["lr"] * (self._loss + gain).clamp(min=0) / corrected
        return torch.where(corrected > 0, rate, 0.0)  # without any gradient there is no step

    def _share_in_average(self, group: dict[str, Any]) -> Tensor:
        """Return ``c``, the newest iterate's share in the average, a scalar."""
        k, highest, total = group["num_updates"], self._scalars["highest_rate"], self._scalars["weight_sum"]
        highest.copy_(torch.maximum(highest, self.rate))
        if k < self.settings.num_skipped:
            return torch.ones_like(total)
        weight = (k + 1) ** self.settings.step_power * highest.square()
        total.add_(weight)
        return torch.where(total > 0, weight / total, 0.0)
