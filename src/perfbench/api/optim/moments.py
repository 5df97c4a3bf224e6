"""Adam's moments and what is made of them, for whole groups of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perfbench.api.optim.group_optimizer import GroupOptimizer
from perfbench.api.optim.group_update import GroupUpdate, Number


def renew_second_moments(second: list[Tensor], gradients: list[Tensor], *, decay: float) -> None:
    """Fold the squares of gradients into ``v`` in place: ``v = decay v + (1 - decay) g^2``."""
    torch._foreach_mul_(second, decay)
    torch._foreach_addcmul_(second, gradients, gradients, 1 - decay)


def corrected_roots(second: list[Tensor], *, correction: Number, eps: float) -> list[Tensor]:
    """Return ``sqrt(v / correction) + eps``, new tensors."""
    roots = list(torch._foreach_sqrt(second))
    torch._foreach_div_(roots, correction**0.5)
    torch._foreach_add_(roots, eps)
    return roots


class AdamDirections(GroupOptimizer):
    """An optimizer whose steps are made of Adam's direction, both moments' biases corrected.

    Groups need ``betas``, ``eps`` and ``num_updates``.
    """

    def _adam_directions(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]
    ) -> list[Tensor]:
        """Count an update, renew both moments and return ``(m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)``."""
        first, second = self._buffers("first_moment", parameters), self._buffers("second_moment", parameters)
        beta1, beta2 = group["betas"]
        group["num_updates"] += 1
        corrections = (1 - beta1 ** group["num_updates"], 1 - beta2 ** group["num_updates"])
        return _ADAM(gradients, first, second, numbers=corrections, fixed=(beta1, beta2, group["eps"]))


def _adam_directions(
    gradients: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    *,
    numbers: tuple[Number, Number],
    fixed: tuple[float, float, float],
) -> list[Tensor]:
    beta1, beta2, eps = fixed
    torch._foreach_lerp_(first, gradients, 1 - beta1)
    renew_second_moments(second, gradients, decay=beta2)
    divisors = corrected_roots(second, correction=numbers[1], eps=eps)
    torch._foreach_mul_(divisors, numbers[0])
    return list(torch._foreach_div(first, divisors))


_ADAM = GroupUpdate(_adam_directions)
