"""MARS-M: Muon on gradients whose variance is reduced by the difference from the step before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import Momentum, Muon, MuonSettings, RateFactor

MATRIX_SETTINGS = MuonSettings(momentum=Momentum.AVERAGE, rate_factor=RateFactor.MATCH_ADAMW)


class MarsMuon(Muon):
    """Muon, whose gradient ``g`` is replaced by ``c``, at most of norm 1 for each tensor.

    ``c = g + gamma b / (1 - b) (g - g_before)``, with ``g_before`` of the update before (0 at first) and the momentum's
    decay ``b``. State: 4 bytes per parameter besides Muon's 4; nothing waits for the device.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        momentum: Its decay, ``b``.
        weight_decay: Decoupled: multiplied by the learning rate.
        settings: As for Muon.
        gamma: How much of the difference is added.

    Source: Liu et al. (2025), arXiv 2510.21800, approximate form; AGI-Arena/MARS as of 2026-03.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        settings: MuonSettings = MATRIX_SETTINGS,
        gamma: float = 0.025,
    ) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay, settings=settings)
        self._gamma = gamma

    def _filtered(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        before = self._buffers("gradient_before", parameters)
        decay = group["momentum"]
        corrected = list(torch._foreach_sub(gradients, before))
        torch._foreach_mul_(corrected, self._gamma * decay / (1 - decay))
        torch._foreach_add_(corrected, gradients)
        torch._foreach_copy_(before, gradients)  # a copy: gradients may be zeroed in place
        norms = list(torch._foreach_norm(corrected))
        torch._foreach_clamp_min_(norms, 1.0)
        torch._foreach_div_(corrected, norms)
        return super()._filtered(group, parameters, corrected)
