"""Orthogonalisation of matrices by polynomials, many of one shape at once, and how a tensor becomes a matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor

MATRIX_DIMENSIONS = 2


@dataclass(frozen=True, slots=True)
class OddPolynomials:
    """Polynomials ``a x + b x^3 + c x^5`` of the singular values, one after another.

    Args:
        coefficients: ``(a, b, c)`` of each.
        margin: Before the first one a matrix is divided by this multiple of its Frobenius norm.
        smallest_norm: Added to that.
    """

    coefficients: tuple[tuple[float, float, float], ...]
    margin: float = 1.0
    smallest_norm: float = 1e-7

    def orthogonalized(self, matrices: Tensor) -> Tensor:
        """Return matrices with the same singular vectors and singular values near 1.

        Args:
            matrices: Shape ``[batch, rows, columns]``, all worked on at once.

        >>> values = torch.linalg.svdvals(NEWTON_SCHULZ.orthogonalized(torch.eye(3)[None]))
        >>> bool((values - 1).abs().max() < 0.35)
        True
        """
        is_tall = matrices.shape[-2] > matrices.shape[-1]
        x = matrices.mT if is_tall else matrices
        x = x / (torch.linalg.matrix_norm(x, keepdim=True) * self.margin + self.smallest_norm)
        for a, b, c in self.coefficients:
            gram = x @ x.mT
            polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            x = torch.baddbmm(x, polynomial, x, beta=a)
        return x.mT if is_tall else x


NEWTON_SCHULZ = OddPolynomials(5 * ((3.4445, -4.7750, 2.0315),))
"""Of Muon. It has no fixed point at 1: it brings singular values near 1 fast (about 0.68 to 1.2), and keeps them there.

Source: K. Jordan (2024), "Muon: an optimizer for hidden layers in neural networks".
"""
POLAR_EXPRESS = OddPolynomials(
    (
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
        (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
        (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
        (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
    ),
    margin=1.02,
    smallest_norm=1e-8,
)
"""The best five for singular values from 1e-3 on. Source: Amsel et al. (2025), arXiv 2505.16932."""
TO_THE_POLAR_FACTOR = OddPolynomials(12 * ((2.0, -1.5, 0.5),))
"""Converges: all singular values become 1. Source: track 3 of the speed runs of modded-nanogpt, 2026-08."""


class Flattening(StrEnum):
    """How a tensor of more than two dimensions becomes a matrix; a linear layer is one, outputs by inputs."""

    BY_OUTPUT = "by_output"
    """Outputs by all else. The rate's factor sees outputs and input channels, not the kernel's size."""
    BY_HEIGHT = "by_height"
    """All else by kernel height, which is what reshaping a JAX kernel (height, width, in, out) gives, transposed. The
    rate's factor sees the matrix."""

    def matrices(self, tensors: Tensor) -> Tensor:
        """Return a view or copy of shape ``[batch, rows, columns]`` of tensors of shape ``[batch, *shape]``."""
        if self._is_kernel(tensors.shape[1:]):
            spatial = range(3, tensors.dim())
            return tensors.permute(0, *spatial, 2, 1).flatten(2).mT
        return tensors.flatten(2)

    def tensors(self, matrices: Tensor, shape: torch.Size) -> Tensor:
        """Undo ``matrices`` for tensors of this shape, the batch left out."""
        if self._is_kernel(shape):
            kernels = matrices.mT.reshape(-1, *shape[2:], shape[1], shape[0])
            return kernels.permute(0, -1, -2, *range(1, len(shape) - 1))
        return matrices.reshape(-1, *shape)

    def sides(self, shape: torch.Size) -> tuple[int, int]:
        """Return the rows and columns that the rate's factor sees."""
        if self._is_kernel(shape):
            return math.prod(shape) // shape[2], shape[2]
        return shape[0], shape[1]

    def _is_kernel(self, shape: torch.Size) -> bool:
        return self is Flattening.BY_HEIGHT and len(shape) > MATRIX_DIMENSIONS


class RateFactor(StrEnum):
    """What the rate is multiplied by for a matrix of given sides, so that one rate suits all shapes."""

    AT_LEAST_ONE = "at_least_one"
    """``max(1, sqrt(rows / columns))``: a step's effect on the layer's output is about the rate (arXiv 2310.17813)."""
    SPECTRAL = "spectral"
    """``sqrt(rows / columns)``."""
    MATCH_ADAMW = "match_adamw"
    """``0.2 sqrt(max(rows, columns))``: entries change as much as under AdamW (arXiv 2502.16982)."""
    ONE = "one"

    def of(self, sides: tuple[int, int]) -> float:
        """Return the factor."""
        rows, columns = sides
        factors = {
            RateFactor.AT_LEAST_ONE: max(1.0, math.sqrt(rows / columns)),
            RateFactor.SPECTRAL: math.sqrt(rows / columns),
            RateFactor.MATCH_ADAMW: 0.2 * math.sqrt(max(rows, columns)),
            RateFactor.ONE: 1.0,
        }
        return factors[self]


PolynomialName = Literal["newton_schulz", "polar_express"]
POLYNOMIALS: dict[PolynomialName, OddPolynomials] = {"newton_schulz": NEWTON_SCHULZ, "polar_express": POLAR_EXPRESS}
"""Those that an option can choose."""
