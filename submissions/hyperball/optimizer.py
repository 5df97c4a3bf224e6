"""Steps of a given angle on the sphere of a matrix's initial norm, in the direction of another optimizer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import (
    TO_THE_POLAR_FACTOR,
    AdamDirections,
    MatrixOptimizer,
    Muon,
    MuonSettings,
    NorMuon,
    RateFactor,
    norms_of,
)

SETTINGS = MuonSettings(polynomials=TO_THE_POLAR_FACTOR, rate_factor=RateFactor.ONE)
_SMALLEST_NORM = 1e-10


class OnSphere(MatrixOptimizer):
    """What any direction ``u`` becomes: a step of about ``lr`` radians, the norm ``r`` of each matrix kept.

    ``w' = w - lr r u / max(|u|, 1e-10);  w = r w' / |w'|``, with Frobenius norms. State: a number per matrix, and the
    direction's.
    """

    def _move(self, group: dict[str, Any], alike: list[Tensor], directions: Tensor) -> None:
        weights = torch.stack(alike)
        state = self._stacked_state(alike)
        if "radii" not in state:
            state["radii"] = norms_of(weights)
        radii = state["radii"]
        moved = weights - directions * (group["lr"] * radii / norms_of(directions).clamp(min=_SMALLEST_NORM))
        torch._foreach_copy_(alike, list((moved * (radii / norms_of(moved))).unbind()))


class MuonOnSphere(OnSphere, Muon):
    """Towards the polar factor of the momentum."""


class NorMuonOnSphere(OnSphere, NorMuon):
    """NorMuon without its rescaling, and with one mean for each place along the longer side of a matrix."""

    def _averaged_dimensions(self, shape: torch.Size) -> tuple[int, ...]:
        is_wide = shape[0] < math.prod(shape[1:])
        return (0,) if is_wide else tuple(range(1, len(shape)))

    def _scaled(self, normalized: Tensor, *, like: Tensor) -> Tensor:  # noqa: ARG002 - the sphere sets the length
        return normalized


class AdamOnSphere(OnSphere, AdamDirections):
    """In Adam's direction, both moments' biases corrected.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        betas: Decay of both moments.
        eps: Added to the root.
    """

    def __init__(
        self, params: ParamsT, lr: float = 0.018, *, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-10
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "num_updates": 0})

    def _filtered(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        return self._adam_directions(group, parameters, gradients)

    def _directions(self, group: dict[str, Any], alike: list[Tensor], filtered: Tensor) -> Tensor:  # noqa: ARG002
        return filtered
