"""Adam whose update of each tensor is as long as the tensor's weights, times the rate."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import AdamDirections, with_gradients


class Lamb(AdamDirections):
    """Layer-wise adaptive moments.

    For gradient ``g`` of one tensor at update ``t`` (from 1)::

        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
        u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay w
        w = w - lr (|w| / |u|) u

    with Euclidean norms over the tensor; the ratio is 1 where either is zero. State: 8 bytes per parameter; nothing
    waits for the device.

    Args:
        params: Parameters or groups.
        lr: Learning rate: the update's length as a part of the weights'.
        betas: Decay of first and second moment.
        eps: Added to the root.
        weight_decay: Added to the direction, before its length is set.

    Source: You et al. (2020), arXiv 1904.00962, with bias correction; identical to
    ``timm.optim.Lamb(max_grad_norm=None, eps=1e-8)``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "num_updates": 0}
        super().__init__(params, defaults)

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = with_gradients(group)
        if not parameters:
            return
        direction = self._adam_directions(group, parameters, gradients)
        torch._foreach_add_(direction, parameters, alpha=group["weight_decay"])

        lengths = torch.stack(torch._foreach_norm(parameters))
        direction_lengths = torch.stack(torch._foreach_norm(direction))
        has_ratio = (lengths > 0) & (direction_lengths > 0)
        ratios = torch.where(has_ratio, lengths / direction_lengths, 1.0)
        torch._foreach_mul_(direction, ratios.unbind())
        torch._foreach_add_(parameters, direction, alpha=-group["lr"])
