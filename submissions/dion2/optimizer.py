"""Dion2: of each matrix's momentum only the largest slices are orthogonalised; the others wait."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import POLAR_EXPRESS, Flattening, MatrixOptimizer, RateFactor


class Dion2(MatrixOptimizer):
    """Orthogonalised slices of the momentum, for parameters of two or more dimensions.

    For a matrix, or a tensor as outputs by all else, with gradient ``g``::

        m = m + g;  chosen: of the shorter side, the share of slices with the largest L1 norm in m
        u = polar factor of the chosen slices of m, by Polar Express; 0 in all others
        m = decay m in the chosen slices;  w = w - lr weight_decay w - lr sqrt(rows / columns) u

    Rows count as the shorter side of a square. State: 4 bytes per parameter; nothing waits for the device.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        fraction: How many of the slices are chosen, rounded up.
        decay: What is left of the momentum of a chosen slice.
        weight_decay: Decoupled: multiplied by the learning rate.
        dtype: Of the orthogonalisation.

    Source: Ahn et al. (2025), arXiv 2512.16928; microsoft/dion as of 2026-08.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        *,
        fraction: float = 0.25,
        decay: float = 0.95,
        weight_decay: float = 0.01,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._fraction = fraction
        self._decay = decay
        self._dtype = dtype

    def _filtered(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:  # noqa: ARG002
        momenta = self._buffers("momentum", parameters)
        torch._foreach_add_(momenta, gradients)
        return momenta

    def _directions(self, group: dict[str, Any], alike: list[Tensor], filtered: Tensor) -> Tensor:  # noqa: ARG002
        matrices = filtered.flatten(2)
        is_wide = matrices.shape[1] <= matrices.shape[2]
        slices = matrices if is_wide else matrices.mT
        num_chosen = math.ceil(self._fraction * slices.shape[1])
        chosen = slices.abs().sum(dim=2, keepdim=True).topk(num_chosen, dim=1).indices
        places = chosen.expand(-1, -1, slices.shape[2])
        kept = torch.ones_like(slices[:, :, :1]).scatter_(1, chosen, self._decay)
        momenta = [self.state[parameter]["momentum"] for parameter in alike]
        torch._foreach_copy_(momenta, list(_as_before(slices * kept, is_wide).reshape(filtered.shape).unbind()))
        polar = POLAR_EXPRESS.orthogonalized(slices.gather(1, places).to(self._dtype)).to(slices.dtype)
        spread = torch.zeros_like(slices).scatter_(1, places, polar)
        factor = RateFactor.SPECTRAL.of(Flattening.BY_OUTPUT.sides(alike[0].shape))
        return _as_before(spread, is_wide).reshape(filtered.shape) * factor


def _as_before(slices: Tensor, is_wide: bool) -> Tensor:  # noqa: FBT001 - which of two layouts, within this file
    return slices if is_wide else slices.mT
