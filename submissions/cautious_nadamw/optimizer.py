"""NAdamW that leaves out the coordinates whose update would oppose the gradient."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from perfbench.api.optim import (
    FixedNumbers,
    GroupUpdate,
    NAdamW,
    Number,
    direction_and_roots,
    subtract_quotients,
)

_SMALLEST_SHARE = 1e-3
"""The kept coordinates are scaled up by at most the inverse of this."""


def _cautious_update(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    *,
    numbers: tuple[Number, Number, Number],
    fixed: FixedNumbers,
) -> None:
    kept, rate, correction = numbers
    direction, roots = direction_and_roots(gradients, first, second, correction=correction, fixed=fixed)
    mask = list(torch._foreach_mul(direction, gradients))
    torch._foreach_sign_(mask)
    torch._foreach_clamp_min_(mask, 0.0)
    share = list(torch._foreach_norm(mask, 1))  # the number of ones
    torch._foreach_div_(share, [float(parameter.numel()) for parameter in parameters])
    torch._foreach_clamp_min_(share, _SMALLEST_SHARE)
    torch._foreach_mul_(mask, direction)  # into the mask: without a look-ahead the direction is the moment itself
    torch._foreach_div_(mask, share)
    torch._foreach_mul_(parameters, kept)
    subtract_quotients(parameters, mask, roots, rate)


class CautiousNAdamW(NAdamW):
    """NAdamW under a mask.

    With NAdamW's direction ``d`` (before the division by the root) and gradient ``g``, the mask is 1 where
    ``d g > 0``. The update is ``d mask / max(mean(mask), 1e-3) / root``, the mean over a tensor; decoupled weight
    decay is outside the mask. State: 8 bytes per parameter; nothing waits for the device.

    Arguments are those of NAdamW. Source: Liang et al. (2024), arXiv 2411.16085; identical to
    ``timm.optim.NAdamW(caution=True)``.
    """

    _update: ClassVar[GroupUpdate[None]] = GroupUpdate(_cautious_update)
