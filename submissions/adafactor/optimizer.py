"""Adam whose second moment of a matrix is kept as one value per row and one per column."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import GroupOptimizer, with_gradients

_SMALLEST_SQUARE = 1e-30
"""Added to every squared gradient, so that no mean is zero."""
_LARGEST_UPDATE = 1.0
"""Root mean square over a tensor above which an update is scaled down."""


class Adafactor(GroupOptimizer):
    """Factored second moments, as the benchmark's baseline has them.

    For gradient ``g`` of one tensor at update ``t`` (from 1), with ``s = g^2 + 1e-30`` and
    ``b2_t = b2 (1 - b2^(t - 1)) / (1 - b2^t)``, which makes the running mean one without bias::

        row = b2_t row + (1 - b2_t) mean of s over the last dimension;  column likewise over the one before it
        v = row / (mean of row over its last dimension) x column;  without two dimensions: v = b2_t v + (1 - b2_t) s
        u = g / sqrt(v);  u = lr u / max(1, root mean square of u)
        m = b1 m + (1 - b1) u;  w = w - lr weight_decay w - m

    The momentum is one of updates, so a step still has the rates of earlier ones. State: 4 bytes per parameter and the
    rows and columns; nothing waits for the device.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        beta1: Decay of the momentum.
        beta2: Decay of the second moment, in the long run.
        weight_decay: Decoupled: multiplied by the learning rate.

    Source: Shazeer and Stern (2018), arXiv 1804.04235, with a decay of the second moment as in Adam and without
    relative rates: the Adafactor baseline of the AlgoPerf paper. ``torch.optim.Adafactor`` is another rule.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay, "num_updates": 0}
        super().__init__(params, defaults)

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = with_gradients(group)
        if not parameters:
            return
        group["num_updates"] += 1
        count, beta2 = group["num_updates"], group["beta2"]
        decay = beta2 * (1 - beta2 ** (count - 1)) / (1 - beta2**count)

        updates = [
            self._normalised(self.state[parameter], gradient, decay=decay)
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]
        excess = torch._foreach_norm(updates)
        torch._foreach_div_(excess, [_LARGEST_UPDATE * update.numel() ** 0.5 for update in updates])
        torch._foreach_clamp_min_(excess, 1.0)
        torch._foreach_div_(updates, excess)
        torch._foreach_mul_(updates, group["lr"])

        momenta = self._buffers("momentum", parameters)
        torch._foreach_lerp_(momenta, updates, 1 - group["beta1"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_sub_(parameters, momenta)

    @staticmethod
    def _normalised(state: dict[str, Tensor], gradient: Tensor, *, decay: float) -> Tensor:
        """Return the gradient over the root of its second moment, and update that moment."""
        square = gradient.square() + _SMALLEST_SQUARE
        if gradient.dim() < 2:  # noqa: PLR2004 - rows and columns
            return gradient * _running_mean(state, "second_moment", square, decay).rsqrt()
        row = _running_mean(state, "rows", square.mean(dim=-1), decay)
        column = _running_mean(state, "columns", square.mean(dim=-2), decay)
        # Two roots instead of one of the product, which underflows where neither row nor column had a gradient.
        row_scale = (row / row.mean(dim=-1, keepdim=True)).rsqrt().unsqueeze(-1)
        return gradient * row_scale * column.rsqrt().unsqueeze(-2)


def _running_mean(state: dict[str, Tensor], name: str, value: Tensor, decay: float) -> Tensor:
    """Return the mean so far, this value included; the first value starts it."""
    if name not in state:
        state[name] = torch.zeros_like(value)
    return state[name].lerp_(value, 1 - decay)
