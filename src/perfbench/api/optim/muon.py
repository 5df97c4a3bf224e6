"""Muon: momentum whose every matrix is moved towards the nearest orthogonal one.

Source: K. Jordan (2024), "Muon: an optimizer for hidden layers in neural networks". ``torch.optim.Muon`` is the same
rule for matrices only, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim.matrix_optimizer import MatrixOptimizer, Momentum, norms_of
from perfbench.api.optim.orthogonal import NEWTON_SCHULZ, Flattening, OddPolynomials, RateFactor

_FLOOR = 1e-10
"""Under roots of means and norms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MuonSettings:
    """In what entries and packages differ."""

    momentum: Momentum = Momentum.NESTEROV
    polynomials: OddPolynomials = NEWTON_SCHULZ
    flattening: Flattening = Flattening.BY_OUTPUT
    rate_factor: RateFactor = RateFactor.AT_LEAST_ONE
    dtype: torch.dtype = torch.bfloat16
    """Of the orthogonalisation."""


class Muon(MatrixOptimizer):
    """Orthogonalised momentum for parameters of two or more dimensions.

    For gradient ``g``::

        m = b m + (1 - b) g;  u = b m + (1 - b) g (Nesterov) or m
        w = w - lr weight_decay w - lr max(1, sqrt(rows / columns)) orthogonalized(u)

    State: 4 bytes per parameter; nothing waits for the device.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        momentum: Its decay, ``b``.
        weight_decay: Decoupled: multiplied by the learning rate.
        settings: In what the entries differ.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        settings: MuonSettings = MuonSettings(),
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._settings = settings

    def _filtered(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        momenta = self._buffers("momentum", parameters)
        return self._settings.momentum.filtered(momenta, gradients, group["momentum"])

    def _directions(self, group: dict[str, Any], alike: list[Tensor], filtered: Tensor) -> Tensor:  # noqa: ARG002
        settings, shape = self._settings, alike[0].shape
        matrices = settings.flattening.matrices(filtered)
        orthogonal = settings.polynomials.orthogonalized(matrices.to(settings.dtype)).to(matrices.dtype)
        return settings.flattening.tensors(orthogonal, shape) * settings.rate_factor.of(
            settings.flattening.sides(shape)
        )


class NorMuon(Muon):
    """Muon whose orthogonal matrices have rows of about equal length, over time.

    With Muon's orthogonal matrix ``O`` and one number per row, ``v``, that starts at 0::

        v = b2 v + (1 - b2) mean(row of O ^ 2);  Q = O / (sqrt(v) + 1e-10), scaled to the Frobenius norm of O

    ``Q`` takes the place of ``O``. A row is what the last dimension holds: of a convolution, a row of its kernel.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        momentum: Its decay.
        weight_decay: Decoupled: multiplied by the learning rate.
        settings: As for Muon.
        beta2: Decay of ``v``.

    Source: Li et al. (2025), arXiv 2510.05491; its published code.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        settings: MuonSettings = MuonSettings(),
        beta2: float = 0.95,
    ) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay, settings=settings)
        self._beta2 = beta2

    def _directions(self, group: dict[str, Any], alike: list[Tensor], filtered: Tensor) -> Tensor:
        orthogonal = super()._directions(group, alike, filtered)
        dimensions = [1 + dim for dim in self._averaged_dimensions(alike[0].shape)]  # the first one is the batch
        means = orthogonal.square().mean(dim=dimensions, keepdim=True)
        normalized = orthogonal / (self._renewed_means(alike, means).sqrt() + _FLOOR)
        return self._scaled(normalized, like=orthogonal)

    def _averaged_dimensions(self, shape: torch.Size) -> tuple[int, ...]:
        """Return over which dimensions of a parameter of this shape squares are averaged."""
        return (len(shape) - 1,)

    def _scaled(self, normalized: Tensor, *, like: Tensor) -> Tensor:
        return normalized * (norms_of(like) / norms_of(normalized).clamp(min=_FLOOR))

    def _renewed_means(self, alike: list[Tensor], means: Tensor) -> Tensor:
        """Fold the newest means into ``v`` of each parameter; return all of them as one tensor."""
        for parameter, mean in zip(alike, means, strict=True):
            if "row_means" not in self.state[parameter]:
                self.state[parameter]["row_means"] = torch.zeros_like(mean)
        kept = [self.state[parameter]["row_means"] for parameter in alike]
        torch._foreach_lerp_(kept, list(means.unbind()), 1 - self._beta2)
        return torch.stack(kept)
