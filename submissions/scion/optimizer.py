"""Scion: steps to the far end of a ball, each group's of its own norm."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import NEWTON_SCHULZ, MatrixOptimizer, Momentum


class Ball(StrEnum):
    """A norm of matrices (a tensor is one of outputs by all else), and the point of its unit ball along ``D``."""

    SPECTRAL = "spectral"
    """``sqrt(rows / columns)`` times the polar factor, by Newton-Schulz; for a kernel of size ``k`` of ``outputs`` by
    ``inputs``, ``sqrt(outputs / inputs) / k``."""
    SIGN = "sign"
    """``sign(D) / columns``."""

    def point(self, directions: Tensor, *, dtype: torch.dtype) -> Tensor:
        """Return the points for a batch of tensors, shape ``[batch, *shape]``.

        Args:
            directions: ``D``.
            dtype: Of the orthogonalisation.
        """
        rows, columns = directions.shape[1:3]
        if self is Ball.SIGN:
            corners: Tensor = directions.sign() / columns
            return corners
        polar: Tensor = NEWTON_SCHULZ.orthogonalized(directions.flatten(2).to(dtype)).to(directions.dtype)
        length = math.sqrt(rows / columns) / math.prod(directions.shape[3:])
        points: Tensor = polar.reshape(directions.shape) * length
        return points


class Scion(MatrixOptimizer):
    """Momentum that is replaced by a point of a ball.

    For gradient ``g`` and a group's ``ball`` and ``radius``::

        d = (1 - a) d + a g;  w = w - lr weight_decay w - lr radius point(d)

    With a ``weight_decay`` of 1 weights stay in the ball of that radius (the constrained form), with 0 they are free.
    Tensors of one shape are worked on together. State: 4 bytes per parameter; nothing waits for the device.

    Args:
        params: Groups, with ``ball`` and ``radius``.
        lr: Learning rate.
        share: ``a``, of the newest gradient.
        weight_decay: Multiplied by the learning rate.
        dtype: Of the orthogonalisation.

    Source: Pethick et al. (2025), arXiv 2502.07529; LIONS-EPFL/scion as of 2026-04.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2**-12,
        *,
        share: float = 0.1,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "ball": Ball.SPECTRAL.value, "radius": 1.0})
        self._share = share
        self._dtype = dtype

    def _filtered(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:  # noqa: ARG002
        return Momentum.AVERAGE.filtered(self._buffers("momentum", parameters), gradients, 1 - self._share)

    def _directions(self, group: dict[str, Any], alike: list[Tensor], filtered: Tensor) -> Tensor:  # noqa: ARG002
        radius: float = group["radius"]
        return Ball(group["ball"]).point(filtered, dtype=self._dtype) * radius
