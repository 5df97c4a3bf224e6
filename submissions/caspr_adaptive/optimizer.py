"""CASPR with the adaptive scale, grafted to NAdamW.

Source: Duvvuri et al. (2024), "Combining Axes Preconditioners through Kronecker Approximation for Deep Learning",
ICLR, OpenReview 8j9hz8DVi8; order of operations as measured on the AlgoPerf v0.5 entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perfbench.api import Shard
from perfbench.api.optim import FirstMoment, MomentCorrection, NAdamW, with_gradients
from perfbench.api.optim.block_exchange import BlockExchange, assign_greedily
from perfbench.api.optim.blocking import cut_into_blocks
from perfbench.api.optim.inverse_roots import Ridge, inverse_roots
from submissions.caspr_adaptive.blocks import BlockState
from submissions.caspr_adaptive.matrices import MatrixView

_GRAFT_GUARD = 1e-16


@dataclass(frozen=True, kw_only=True, slots=True)
class CasprSettings:
    """The numbers of the method. Defaults are what every point of the competition's entry used."""

    betas: tuple[float, float]
    """Decay of the first moment; of the second moment and of the statistics."""
    weight_decay: float
    """Decoupled: multiplied by the learning rate."""
    max_dimension: int = 1024
    """Largest side of a block."""
    root_period: int = 20
    """Roots are computed at multiples of this update."""
    first_preconditioned: int = 102
    """Updates before this one, counted from 1, are NAdamW's."""
    relative_ridge: float = 1e-6
    """Added to all eigenvalues before a root, as a part of the largest."""
    graft_is_guarded: bool = False
    """Whether a preconditioned direction of length zero gives an update of zero; otherwise it gives NaN."""
    first_moment: MomentCorrection = MomentCorrection.AS_RUN
    """How NAdamW's first moment is corrected, whose length all updates have."""

    @property
    def ridge(self) -> Ridge:
        """What is added to all eigenvalues."""
        return Ridge(0.0, relative=self.relative_ridge)


class CasprAdaptive(NAdamW):
    """NAdamW whose direction, for matrices, is preconditioned from both sides and keeps NAdamW's length.

    For a block's gradient ``G`` (``m`` rows) in update ``t``, and NAdamW's look-ahead ``F`` and direction ``D``::

        c = 1, but after new roots: trace(P L' P) / m with L' the left statistics of the roots before
        L = b2 L + (1 - b2) G G^T;   Y = G^T P;   R = b2 c R + (1 - b2) Y Y^T / m
        at multiples of root_period: P = (L + ridge)^(-1/2), Q = (R + ridge)^(-1/2)
        U = P F Q, scaled to the length of D over the whole matrix;   w = w - lr (U + weight_decay w)

    Roots are computed by one rank each and spread with one collective; all else is replicated. An update waits for
    the device only where roots are computed.

    Args:
        parameters: By name, all of one dtype and device.
        views: How those that are preconditioned are read as matrices, by name.
        settings: What to do.
        lr: Learning rate.
        shard: This rank's place; alone by default.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        views: Mapping[str, MatrixView],
        settings: CasprSettings,
        *,
        lr: float,
        shard: Shard | None = None,
    ) -> None:
        super().__init__(
            parameters.values(),
            lr=lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            first_moment=FirstMoment(correction=settings.first_moment),
        )
        self.settings = settings
        self.num_kept_roots = 0
        shard = shard or Shard()
        self._views: dict[Tensor, MatrixView] = {parameters[name]: view for name, view in views.items()}
        self._blocks: dict[Tensor, list[BlockState]] = {
            parameter: [BlockState.start(block, settings.ridge) for block in self._cut(parameter, parameter.detach())]
            for parameter in self._views
        }
        self._names: dict[Tensor, str] = {parameters[name]: name for name in views}
        roots = [root for block in self._all_blocks() for root in (block.left_root, block.right_root)]
        owners = assign_greedily([root.numel() * root.element_size() for root in roots], num_ranks=shard.num_ranks)
        self._is_own = [owner == shard.rank for owner in owners]
        self._exchange = BlockExchange(roots, owners, rank=shard.rank, num_ranks=shard.num_ranks)

    def state_dict(self) -> dict[str, Any]:
        """Return both moments and every block's statistics and roots."""
        blocks = {
            self._names[parameter]: [block.tensors() for block in states] for parameter, states in self._blocks.items()
        }
        return {**super().state_dict(), "blocks": blocks, "num_kept_roots": self.num_kept_roots}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, the blocks in place."""
        super().load_state_dict(state_dict)
        self.num_kept_roots = state_dict["num_kept_roots"]
        for parameter, states in self._blocks.items():
            for block, saved in zip(states, state_dict["blocks"][self._names[parameter]], strict=True):
                block.load(saved)

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = with_gradients(group)
        if not parameters:
            return
        ahead, scale = self._filtered(group, parameters, gradients)
        directions = list(torch._foreach_div(ahead, scale))
        torch._foreach_div_(directions, self._first_moment.divisor(group["betas"][0], group["num_updates"]))
        settings, t = self.settings, group["num_updates"]
        matrices = [index for index, parameter in enumerate(parameters) if parameter in self._views]
        for index in matrices:
            self._accumulate(parameters[index], gradients[index], update=t)
        if t % settings.root_period == 0:
            self._compute_roots()
        if matrices and t >= settings.first_preconditioned:
            preconditioned = [self._preconditioned(parameters[index], ahead[index]) for index in matrices]
            grafts = [directions[index] for index in matrices]
            scaled = _scaled(preconditioned, lengths_of=grafts, guard=_GRAFT_GUARD * settings.graft_is_guarded)
            for index, direction in zip(matrices, scaled, strict=True):
                directions[index] = direction
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, directions, alpha=-group["lr"])

    def _accumulate(self, parameter: Tensor, gradient: Tensor, *, update: int) -> None:
        settings = self.settings
        for block, part in zip(self._blocks[parameter], self._cut(parameter, gradient), strict=True):
            block.accumulate(
                part,
                decay=settings.betas[1],
                ridge=settings.ridge,
                roots_are_new=max(update - 1, 1) % settings.root_period == 0,
            )

    def _compute_roots(self) -> None:
        """Compute this rank's share of the roots and spread them; waits for the device."""
        statistics = [factor for block in self._all_blocks() for factor in (block.left, block.right)]
        present = [root for block in self._all_blocks() for root in (block.left_root, block.right_root)]
        own = [index for index, is_own in enumerate(self._is_own) if is_own]
        roots, num_kept = inverse_roots(
            [statistics[index] for index in own],
            [present[index] for index in own],
            exponents=[2] * len(own),
            epsilon=self.settings.ridge,
        )
        self.num_kept_roots += num_kept
        for index, root in zip(own, roots, strict=True):
            present[index].copy_(root)
        self._exchange.spread()

    def _preconditioned(self, parameter: Tensor, ahead: Tensor) -> Tensor:
        """Return ``P F Q`` of every block, in the parameter's shape."""
        matrix = self._views[parameter].of(ahead).clone()
        parts = cut_into_blocks(matrix, max_dimension=self.settings.max_dimension)
        for block, part in zip(self._blocks[parameter], parts, strict=True):
            part.copy_(block.left_root @ part @ block.right_root)
        return self._views[parameter].back(matrix, parameter.shape)

    def _cut(self, parameter: Tensor, tensor: Tensor) -> list[Tensor]:
        return cut_into_blocks(self._views[parameter].of(tensor), max_dimension=self.settings.max_dimension)

    def _all_blocks(self) -> Iterator[BlockState]:
        for states in self._blocks.values():
            yield from states


def _scaled(directions: list[Tensor], *, lengths_of: list[Tensor], guard: float) -> list[Tensor]:
    """Give each direction the length of its graft, over the whole tensor."""
    lengths = torch._foreach_norm(directions)
    if guard:
        torch._foreach_add_(lengths, guard)
    ratios = torch._foreach_div(torch._foreach_norm(lengths_of), lengths)
    return list(torch._foreach_mul(directions, list(ratios)))
