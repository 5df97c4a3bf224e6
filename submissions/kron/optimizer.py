"""PSGD Kron: a preconditioner for each side of a matrix, fitted step by step so that it whitens the gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import MatrixOptimizer

MAX_TRIANGULAR_SIDE = 8192
_NOISE_SCALE = torch.finfo(torch.float32).eps ** 0.5
_TINY = torch.finfo(torch.float32).tiny
_LARGEST_STEP = 1.1
"""Root mean square of an update at most."""
_BALANCING_PERIOD = 100
"""In updates of the preconditioner."""
_FULL_UPDATES, _FALL, _LEAST_PROBABILITY = 500, 0.001, 0.03


class Kron(MatrixOptimizer):
    """Momentum under ``P = QL' QL (x) QR' QR`` for tensors of any shape.

    A tensor of more than two dimensions is a matrix of outputs by all else; factors are upper triangular, but diagonal
    for vectors and numbers, sides of 1 and sides above 8192. For gradient ``g`` at update ``t`` (from 1)::

        m = b1 m + (1 - b1) g;  M = m / (1 - b1^t)
        now and then:  V normal;  M = M + sqrt(eps) mean|M| V;  A = QL M QR';  B = QL^-' V QR^-1
            for each side:  Q = Q - rate triu(T1) Q / |T2|,  T1 = A A' - B B',  T2 = A A' + B B'
        u = P M, at most 1.1 in root mean square;  w = w - lr (u + weight_decay w)

    ``|T2|`` is a lower bound of the spectral norm. How seldom ``now and then`` is: :func:`update_probability`. Tensors
    of one shape are worked on together. State: 4 bytes per parameter and ``4 (m/n + n/m)`` for the factors; the
    generator of ``V`` is part of it, and gives all ranks the same. Nothing waits for the device.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        momentum: ``b1``.
        weight_decay: Decoupled: multiplied by the learning rate.
        preconditioner_rate: Of the factors.
        seed: Of ``V``; the same on every rank.

    Source: Li (2015 to 2024), arXiv 2402.04553; evanatyourservice/kron_torch as of 2025-07.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-4,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        preconditioner_rate: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._momentum = momentum
        self._preconditioner_rate = preconditioner_rate
        self._counts = {"updates": 0, "since_fit": 0, "fits": 0}
        self._is_fitting = self._is_balancing = False
        device = self.param_groups[0]["params"][0].device
        self._generator = torch.Generator(device).manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the generator's and what was counted."""
        return {**super().state_dict(), "generator": self._generator.get_state(), "counts": dict(self._counts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore all of it."""
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self._generator.set_state(state_dict["generator"].cpu())
        self._counts = dict(state_dict["counts"])

    def _filtered(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        if group is self.param_groups[0]:
            self._begin_update()
        momenta = self._buffers("momentum", parameters)
        torch._foreach_lerp_(momenta, gradients, 1 - self._momentum)
        return list(torch._foreach_div(momenta, 1 - self._momentum ** self._counts["updates"]))

    def _begin_update(self) -> None:
        """Decide for all tensors whether their factors are fitted and balanced."""
        counts = self._counts
        probability = update_probability(counts["updates"])
        counts["updates"] += 1
        counts["since_fit"] += 1
        self._is_fitting = counts["since_fit"] >= 1 / probability
        if self._is_fitting:
            counts["since_fit"] = 0
            counts["fits"] += 1
        self._is_balancing = self._is_fitting and counts["fits"] % _BALANCING_PERIOD == 0

    def _directions(self, group: dict[str, Any], alike: list[Tensor], filtered: Tensor) -> Tensor:  # noqa: ARG002
        is_matrix = filtered.dim() > 2  # noqa: PLR2004 - the batch and two more
        momenta = filtered.flatten(2) if is_matrix else filtered.reshape(len(alike), -1)
        factors = self._factors(alike, momenta)
        if self._is_fitting:
            if self._is_balancing and is_matrix:
                _balance(factors)
            noise = self._noise(momenta)
            spread = momenta.abs().mean(dim=tuple(range(1, momenta.dim())), keepdim=True)
            momenta = momenta + _NOISE_SCALE * spread * noise
            _fit(factors, momenta, noise, rate=self._preconditioner_rate)
        updates = momenta
        for side, factor in enumerate(factors):
            updates = _applied(factor, _applied(factor, updates, side), side, is_transposed=True)
        size = updates.square().mean(dim=tuple(range(1, updates.dim())), keepdim=True).sqrt()
        return (updates * (_LARGEST_STEP / (size + 1e-12)).clamp(max=1.0)).reshape(filtered.shape)

    def _factors(self, alike: list[Tensor], momenta: Tensor) -> list[Tensor]:
        """Return ``Q`` of each side, shape ``[batch, side, side]`` or ``[batch, side]`` where it is diagonal."""
        state = self._stacked_state(alike)
        sides = range(momenta.dim() - 1)
        for side in sides:
            if f"factor_{side}" not in state:
                state[f"factor_{side}"] = _identity(momenta, side)
        return [state[f"factor_{side}"] for side in sides]

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=self._generator)


def update_probability(num_updates: int) -> float:
    """Return how often the factors are fitted: always in 500 updates, then ever more seldom, once in 33 at last.

    >>> update_probability(500), round(update_probability(1500), 3), update_probability(10_000)
    (1.0, 0.368, 0.03)
    """
    return min(1.0, max(math.exp(-_FALL * (num_updates - _FULL_UPDATES)), _LEAST_PROBABILITY))


def _identity(momenta: Tensor, side: int) -> Tensor:
    batch, size = momenta.shape[0], momenta.shape[1 + side]
    is_vector = momenta.dim() == 2  # noqa: PLR2004 - the batch and one more
    if is_vector or size == 1 or size > MAX_TRIANGULAR_SIDE:
        return momenta.new_ones(batch, size)
    return torch.eye(size, dtype=momenta.dtype, device=momenta.device).repeat(batch, 1, 1)


def _is_diagonal(factor: Tensor) -> bool:
    return factor.dim() == 2  # noqa: PLR2004 - the batch and the diagonal


def _applied(factor: Tensor, tensors: Tensor, side: int, *, is_transposed: bool = False) -> Tensor:
    """Return the factor, or its transpose, times the tensors from one side."""
    if _is_diagonal(factor):
        return tensors * (factor if tensors.dim() == factor.dim() else factor.unsqueeze(2 - side))
    matrix = factor.mT if is_transposed else factor
    product: Tensor = matrix @ tensors if side == 0 else tensors @ matrix.mT
    return product


def _solved(factor: Tensor, tensors: Tensor, side: int) -> Tensor:
    """Return the transposed inverse of the factor times the tensors from one side."""
    if _is_diagonal(factor):
        return tensors / (factor if tensors.dim() == factor.dim() else factor.unsqueeze(2 - side))
    is_first = side == 0
    matrix = factor.mT if is_first else factor
    solution: Tensor = torch.linalg.solve_triangular(matrix, tensors, upper=not is_first, left=is_first)
    return solution


def _fit(factors: Sequence[Tensor], momenta: Tensor, noise: Tensor, *, rate: float) -> None:
    """Move each factor, in place, towards one under which the momenta are as white as the noise."""
    whitened, unwhitened = momenta, noise
    for side, factor in enumerate(factors):
        whitened = _applied(factor, whitened, side)
        unwhitened = _solved(factor, unwhitened, side)
    for side, factor in enumerate(factors):
        if _is_diagonal(factor):
            seen, drawn = (_squares(tensors, side) for tensors in (whitened, unwhitened))
            largest = (seen + drawn).amax(dim=1, keepdim=True).clamp(min=_TINY)
            factor.sub_(rate * (seen - drawn) / largest * factor)
        else:
            seen, drawn = (_gram(tensors, side) for tensors in (whitened, unwhitened))
            largest = spectral_bounds(seen + drawn).clamp(min=_TINY)[:, None, None]
            factor.sub_((rate * (seen - drawn) / largest).triu() @ factor)


def _squares(tensors: Tensor, side: int) -> Tensor:
    squares = tensors.square()
    return squares if tensors.dim() == 2 else squares.sum(dim=2 - side)  # noqa: PLR2004 - the batch and one more


def _gram(tensors: Tensor, side: int) -> Tensor:
    return tensors @ tensors.mT if side == 0 else tensors.mT @ tensors


def spectral_bounds(matrices: Tensor) -> Tensor:
    """Return lower bounds of the spectral norms of symmetric matrices, by one power step from the largest column.

    Args:
        matrices: Shape ``[batch, side, side]``.

    >>> spectral_bounds(torch.diag(torch.tensor([1.0, 3.0]))[None])
    tensor([3.])
    """
    largest = matrices.abs().amax(dim=(1, 2))
    scaled = matrices / largest.clamp(min=_TINY)[:, None, None]
    column = scaled.square().sum(dim=1).argmax(dim=1)
    vector = scaled.gather(2, column[:, None, None].expand(-1, scaled.shape[1], 1))
    vector = scaled.mT @ vector
    vector = vector / torch.linalg.vector_norm(vector, dim=1, keepdim=True).clamp(min=_TINY)
    bounds: Tensor = torch.linalg.vector_norm(scaled @ vector, dim=(1, 2)) * largest
    return bounds


def _balance(factors: Sequence[Tensor]) -> None:
    """Give both factors of each matrix the same largest entry; their product stays."""
    largest = torch.stack([factor.abs().flatten(1).amax(dim=1) for factor in factors])
    scales = largest.log().mean(dim=0).exp() / largest
    for factor, scale in zip(factors, scales, strict=True):
        factor.mul_(scale.reshape(-1, *([1] * (factor.dim() - 1))))
