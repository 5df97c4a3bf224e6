"""KL-Shampoo and KL-SOAP: two factors of the gradient's covariance, each estimated under the other one's whitening."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.optim import MatrixOptimizer

_FIRST_VALUE = 0.1
"""Of all eigenvalues."""
_LEAST_BOUND, _GREATEST_BOUND = 10, 4000
"""An inverse root of an eigenvalue is at most the side of its factor, and that within these."""


class KlShampoo(MatrixOptimizer):
    """Kronecker-factored preconditioning for parameters of two or more dimensions, taken as outputs by all else.

    ``L`` of shape ``[m, m]`` and ``R`` of ``[n, n]`` have bases ``QL``, ``QR`` and estimates of eigenvalues ``l``,
    ``r`` of their own. The first update only sets them, from the gradient ``G``; each later one does::

        m1 = b1 m1 + (1 - b1) G;  w = w - lr QL ((l r)^(-1/2) * (QL' m1 QR)) QR';  w = w - lr weight_decay w
        L = bs L + (1 - bs) A A' / n,  A = G QR r^(-1/2);   R alike with QL and l
        l = bs l + (1 - bs) mean over columns of (r^(-1/2) (QL' G QR))^2;   r alike
        every ``period`` updates:  QL = qr(L QL), QR = qr(R QR)

    Matrices of one shape are worked on together. State: 4 bytes per parameter and ``8 (m/n + n/m)`` for the factors and
    their bases. A step waits for the device only where eigenvectors are computed: once per shape, in the first update.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        betas: Decay of ``m1``, and of ``v`` where there is one.
        statistics_decay: ``bs``; the second of ``betas`` by default.
        eps: Damping: a scale ``d`` becomes ``d / (1 + eps d)``.
        weight_decay: Decoupled: multiplied by the learning rate.
        period: Updates from one renewal of the bases to the next.

    Source: Lin et al. (2025), arXiv 2509.03378; yorkerlin/KL-Methods as of 2026-02, but for bfloat16.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.98),
        statistics_decay: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        period: int = 10,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "period": period}
        super().__init__(params, {**defaults, "statistics_decay": statistics_decay or betas[1]})

    def _directions(self, group: dict[str, Any], alike: list[Tensor], filtered: Tensor) -> Tensor:
        gradients = filtered.flatten(2)
        state = self._stacked_state(alike)
        if "left" not in state:
            self._start(state, gradients, share=1 - group["statistics_decay"])
            return torch.zeros_like(filtered)
        state["num_updates"] += 1
        rotated = state["left_basis"].mT @ gradients @ state["right_basis"]
        directions = self._preconditioned(group, state, gradients, rotated)
        _renew_statistics(state, gradients, rotated, share=1 - group["statistics_decay"])
        if state["num_updates"] % group["period"] == 0:
            self._renew_bases(state)
        return directions.reshape(filtered.shape)

    def _move(self, group: dict[str, Any], alike: list[Tensor], directions: Tensor) -> None:
        """Take the step, decay after it; the first update takes none."""
        if self._stacked_state(alike)["num_updates"]:
            torch._foreach_add_(alike, list(directions.unbind()), alpha=-group["lr"])
            torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])

    def _start(self, state: dict[str, Any], gradients: Tensor, *, share: float) -> None:
        rows, columns = gradients.shape[1:]
        state["num_updates"] = 0
        state["first_moment"] = torch.zeros_like(gradients)
        state["left"] = share / columns * (gradients @ gradients.mT)
        state["right"] = share / rows * (gradients.mT @ gradients)
        for side in ("left", "right"):
            state[f"{side}_basis"] = torch.linalg.eigh(state[side]).eigenvectors.flip(-1).contiguous()
            state[f"{side}_values"] = torch.full_like(state[side][:, 0], _FIRST_VALUE)

    def _preconditioned(
        self, group: dict[str, Any], state: dict[str, Any], gradients: Tensor, rotated: Tensor
    ) -> Tensor:
        """Renew the moment; return the directions under the statistics as they were, shape ``[batch, m, n]``."""
        del rotated
        left, right = state["left_basis"], state["right_basis"]
        moment = state["first_moment"].lerp_(gradients, 1 - group["betas"][0])
        scales: Tensor = _inverse_root(state["left_values"])[:, :, None] * _inverse_root(state["right_values"])[:, None]
        scales = scales / (1 + group["eps"] * scales)
        directions: Tensor = left @ (scales * (left.mT @ moment @ right)) @ right.mT
        return directions

    def _renew_bases(self, state: dict[str, Any]) -> None:
        for side in ("left", "right"):
            state[f"{side}_basis"] = torch.linalg.qr(state[side] @ state[f"{side}_basis"]).Q


class KlSoap(KlShampoo):
    """Adam, without bias corrections, in the bases of KL-Shampoo.

    Its direction, with ``P = QL' G QR``::

        m1 = b1 m1 + (1 - b1) P;  v = b2 v + (1 - b2) P^2;  direction = QL (m1 / (sqrt(v) + eps)) QR'

    ``m1`` goes along where the bases turn, ``v`` does not. State: 4 bytes per parameter more.
    """

    def _start(self, state: dict[str, Any], gradients: Tensor, *, share: float) -> None:
        super()._start(state, gradients, share=share)
        state["second_moment"] = torch.zeros_like(gradients)

    def _preconditioned(
        self, group: dict[str, Any], state: dict[str, Any], gradients: Tensor, rotated: Tensor
    ) -> Tensor:
        del gradients
        beta1, beta2 = group["betas"]
        moment = state["first_moment"].lerp_(rotated, 1 - beta1)
        second = state["second_moment"].mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
        adam = moment / (second.sqrt() + group["eps"])
        directions: Tensor = state["left_basis"] @ adam @ state["right_basis"].mT
        return directions

    def _renew_bases(self, state: dict[str, Any]) -> None:
        moment = state["left_basis"] @ state["first_moment"] @ state["right_basis"].mT
        super()._renew_bases(state)
        state["first_moment"] = state["left_basis"].mT @ moment @ state["right_basis"]


def _renew_statistics(state: dict[str, Any], gradients: Tensor, rotated: Tensor, *, share: float) -> None:
    """Fold the gradients into both factors and both estimates of eigenvalues, each under the other one's old ones."""
    rows, columns = gradients.shape[1:]
    left_roots = _inverse_root(state["left_values"])[:, :, None]
    right_roots = _inverse_root(state["right_values"])[:, None]
    by_right = gradients @ state["right_basis"] * right_roots
    by_left = left_roots * (state["left_basis"].mT @ gradients)
    state["left"].baddbmm_(by_right, by_right.mT, beta=1 - share, alpha=share / columns)
    state["right"].baddbmm_(by_left.mT, by_left, beta=1 - share, alpha=share / rows)
    left_means = (right_roots * rotated).square().mean(dim=2)
    right_means = (left_roots * rotated).square().mean(dim=1)
    _renew_values(state["left_values"], left_means, share=share)
    _renew_values(state["right_values"], right_means, share=share)


def _renew_values(values: Tensor, means: Tensor, *, share: float) -> None:
    bound = max(_LEAST_BOUND, min(values.shape[1], _GREATEST_BOUND))
    values.lerp_(means, share).clamp_(min=bound**-2)


def _inverse_root(values: Tensor) -> Tensor:
    return values.rsqrt()
