"""Muon: momentum whose every matrix is moved towards the nearest orthogonal one.

Source: K. Jordan (2024), "Muon: an optimizer for hidden layers in neural networks"; the rate's factor from arXiv
2310.17813. ``torch.optim.Muon`` is the same rule for matrices only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import GroupOptimizer, with_gradients

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial. It has no fixed point at 1: it brings singular values near 1 fast, and keeps them there."""
NUM_ITERATIONS = 5
_SMALLEST_NORM = 1e-7


class Flattening(StrEnum):
    """How a convolution becomes a matrix; a linear layer is one, outputs by inputs."""

    BY_OUTPUT = "by_output"
    """Outputs by all else. The rate's factor sees outputs and input channels, not the kernel's size."""
    BY_HEIGHT = "by_height"
    """All else by kernel height, which is what reshaping a JAX kernel (height, width, in, out) gives, transposed. The
    rate's factor sees the matrix."""

    def matrix(self, tensor: Tensor) -> Tensor:
        """Return a view or copy of shape ``[rows, columns]``."""
        if tensor.dim() > 2 and self is Flattening.BY_HEIGHT:  # noqa: PLR2004 - more than a matrix
            return self._kernel(tensor).flatten(1).T
        return tensor.flatten(1)

    def tensor(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        """Undo ``matrix`` for a tensor of this shape."""
        if len(shape) > 2 and self is Flattening.BY_HEIGHT:  # noqa: PLR2004 - more than a matrix
            kernel_shape = (*shape[2:], shape[1], shape[0])
            kernel = matrix.T.reshape(kernel_shape)
            return kernel.permute(-1, -2, *range(len(shape) - 2))
        return matrix.reshape(shape)

    def rate_factor(self, shape: torch.Size) -> float:
        """Return what the rate is multiplied by, so that a step's effect on the layer's output is about the rate."""
        rows, columns = shape[:2]
        if len(shape) > 2 and self is Flattening.BY_HEIGHT:  # noqa: PLR2004 - more than a matrix
            rows, columns = math.prod(shape) // shape[2], shape[2]
        return max(1.0, math.sqrt(rows / columns))

    @staticmethod
    def _kernel(tensor: Tensor) -> Tensor:
        """Return a view in the order of JAX: spatial dimensions, inputs, outputs."""
        return tensor.permute(*range(2, tensor.dim()), 1, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class MuonSettings:
    """In what the entries differ."""

    nesterov: bool = True
    flattening: Flattening = Flattening.BY_OUTPUT
    dtype: torch.dtype = torch.bfloat16
    """Of the orthogonalisation."""


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors and singular values near 1 (about 0.68 to 1.2).

    Args:
        matrices: Shape ``[batch, rows, columns]``, all worked on at once.

    >>> bool((torch.linalg.svdvals(orthogonalized(torch.eye(3)[None])) - 1).abs().max() < 0.35)
    True
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + _SMALLEST_NORM)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if is_tall else x


class Muon(GroupOptimizer):
    """Orthogonalised momentum for parameters of two or more dimensions.

    For gradient ``g``::

        m = b m + (1 - b) g;  u = b m + (1 - b) g (Nesterov) or m
        w = w - lr weight_decay w - lr max(1, sqrt(rows / columns)) orthogonalized(u)

    Matrices of one shape are orthogonalised together. State: 4 bytes per parameter; nothing waits for the device.

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

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = with_gradients(group)
        if not parameters:
            return
        momenta = self._buffers("momentum", parameters)
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions: Sequence[Tensor] = momenta
        if self._settings.nesterov:
            directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])

        flattening = self._settings.flattening
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, parameter in enumerate(parameters):
            alike[tuple(flattening.matrix(parameter).shape)].append(index)
        for indices in alike.values():
            stacked = torch.stack([flattening.matrix(directions[index]) for index in indices])
            orthogonal = orthogonalized(stacked.to(self._settings.dtype)).to(stacked.dtype)
            for index, matrix in zip(indices, orthogonal, strict=True):
                parameter = parameters[index]
                rate = group["lr"] * flattening.rate_factor(parameter.shape)
                parameter.add_(flattening.tensor(matrix, parameter.shape), alpha=-rate)
