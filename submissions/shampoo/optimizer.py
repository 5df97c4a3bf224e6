"""Distributed Shampoo: Kronecker-factored preconditioning of blocks, grafted to the length of a simpler update.

Each rank holds the state of its own blocks only, updates those blocks of the parameters, and one collective spreads
them. Given equal gradients the result is the same, bit for bit, for any number of ranks.

Source: Shi et al. (2023), "A Distributed Data-Parallel PyTorch Implementation of the Distributed Shampoo Optimizer";
settings and order of operations as measured on the AlgoPerf v0.5 entry.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from perfbench.errors import SubmissionError
from submissions.shampoo.assignment import BlockExchange, assign_greedily
from submissions.shampoo.blocking import Blocking
from submissions.shampoo.roots import inverse_roots

_GRAFT_GUARD = 1e-16


class Grafting(StrEnum):
    """Whose length the preconditioned direction takes."""

    ADAM = "adam"
    SGD = "sgd"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShampooSettings:
    """What one instance does."""

    beta1: float
    """Decay of the filtered gradient; 0 for none."""
    beta2: float
    """Decay of the factors and of the Adam graft's second moment."""
    weight_decay: float
    grafting: Grafting
    use_nadam: bool
    momentum: float = 0.0
    """Decay of the moving average of updates, applied with Nesterov; 0 for none."""
    inv_root_override: int = 0
    """Root for blocks of every order; 0 for twice the order."""
    epsilon: float = 1e-8
    graft_epsilon: float = 1e-8
    precondition_frequency: int = 100
    """Roots are computed, and for the first time used, at multiples of this step."""
    blocking: Blocking = field(default_factory=lambda: Blocking(max_dimension=1024))
    is_preconditioned: bool = True
    """False for the graft alone: no factors are kept."""


@dataclass(slots=True)
class _Block:
    """One block that this rank owns."""

    key: str
    parameter: nn.Parameter
    index: int
    weights: Tensor
    tensors: dict[str, Tensor]
    """``filtered``, ``second``, ``momentum`` where used; ``factor_<i>`` and ``root_<i>`` for every dimension."""

    def per_dimension(self, name: str) -> list[Tensor]:
        return [self.tensors[f"{name}_{axis}"] for axis in range(self.weights.dim())]


class DistributedShampoo(Optimizer):
    """Shampoo over the blocks of named parameters.

    For a block's gradient ``G`` at step ``t``, factors ``A_i = b2 A_i + (1 - b2) (G contracted with itself over all
    dimensions but i)``. From the first root step on, the filtered gradient is contracted with every
    ``(A_i / (1 - b2^t) + eps)^(-1/r)`` and scaled to the graft's length; before, the graft's direction is used.

    Args:
        parameters: By name; the name is used in errors and in the state.
        settings: What to do.
        lr: Learning rate.
        rank: This rank.
        num_ranks: All ranks.
    """

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        settings: ShampooSettings,
        *,
        lr: float,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        super().__init__(list(parameters.values()), {"lr": lr})
        self.settings = settings
        self.num_steps = 0
        self.num_failed_roots = 0
        located = [
            (f"{name}/{index}", parameter, index, block)
            for name, parameter in parameters.items()
            for index, block in enumerate(settings.blocking.blocks(parameter.data))
        ]
        sizes = [block.numel() * block.element_size() for *_, block in located]
        owners = assign_greedily(sizes, num_ranks=num_ranks)
        self._exchange = BlockExchange([block for *_, block in located], owners, rank=rank, num_ranks=num_ranks)
        self._blocks = [
            _Block(key, parameter, index, block, self._initial_tensors(block))
            for (key, parameter, index, block), owner in zip(located, owners, strict=True)
            if owner == rank
        ]

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter; all ranks call this together.

        Raises:
            SubmissionError: If a factor is not finite when roots are computed, naming the block.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.num_steps += 1
        active = [block for block in self._blocks if block.parameter.grad is not None]
        if active:
            self._update(active, self._gradients(active))
        self._exchange.spread()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's state: plain tensors and numbers."""
        return {
            "num_steps": self.num_steps,
            "num_failed_roots": self.num_failed_roots,
            "lr": self.param_groups[0]["lr"],
            "blocks": {block.key: dict(block.tensors) for block in self._blocks},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore this rank's state in place.

        Raises:
            SubmissionError: If the state is of other blocks: another model, or another number of ranks.
        """
        saved = state_dict["blocks"]
        if set(saved) != {block.key for block in self._blocks}:
            raise SubmissionError(
                "the saved state is of other blocks than this rank owns",
                where="DistributedShampoo.load_state_dict",
                hint="resume with the same model and the same number of ranks",
            )
        self.num_steps = state_dict["num_steps"]
        self.num_failed_roots = state_dict["num_failed_roots"]
        self.param_groups[0]["lr"] = state_dict["lr"]
        for block in self._blocks:
            for name, tensor in block.tensors.items():
                tensor.copy_(saved[block.key][name])

    def _initial_tensors(self, block: Tensor) -> dict[str, Tensor]:
        settings, tensors = self.settings, {}
        if settings.beta1:
            tensors["filtered"] = torch.zeros_like(block, memory_format=torch.contiguous_format)
        if settings.grafting is Grafting.ADAM:
            tensors["second"] = torch.zeros_like(block, memory_format=torch.contiguous_format)
        if settings.momentum:
            tensors["momentum"] = torch.zeros_like(block, memory_format=torch.contiguous_format)
        if settings.is_preconditioned:
            for axis, size in enumerate(block.shape):
                tensors[f"factor_{axis}"] = block.new_zeros(size, size)
                tensors[f"root_{axis}"] = block.new_zeros(size, size)
        return tensors

    def _gradients(self, active: Sequence[_Block]) -> list[Tensor]:
        """Return the gradient of each block as a view."""
        cut: dict[nn.Parameter, list[Tensor]] = {}
        for block in active:
            if block.parameter not in cut:
                assert block.parameter.grad is not None, "only active blocks"
                cut[block.parameter] = self.settings.blocking.blocks(block.parameter.grad.contiguous())
        return [cut[block.parameter][block.index] for block in active]

    def _update(self, active: Sequence[_Block], gradients: list[Tensor]) -> None:
        settings, t = self.settings, self.num_steps
        if settings.is_preconditioned:
            self._accumulate_factors(active, gradients)
            if t % settings.precondition_frequency == 0:
                self._compute_roots(active)
        filtered = self._filtered(active, gradients)
        direction = self._grafted_direction(active, gradients, filtered)
        if settings.is_preconditioned and t >= settings.precondition_frequency:
            direction = self._preconditioned(active, filtered, direction)
        weights = [block.weights for block in active]
        if settings.weight_decay:
            direction = list(torch._foreach_add(direction, weights, alpha=settings.weight_decay))
        if settings.momentum:
            direction = self._with_momentum(active, direction)
        torch._foreach_add_(weights, direction, alpha=-self.param_groups[0]["lr"])

    def _accumulate_factors(self, active: Sequence[_Block], gradients: Sequence[Tensor]) -> None:
        beta2 = self.settings.beta2
        for block, gradient in zip(active, gradients, strict=True):
            for axis, factor in enumerate(block.per_dimension("factor")):
                unfolded = gradient.movedim(axis, 0).reshape(gradient.shape[axis], -1)
                factor.addmm_(unfolded, unfolded.T, beta=beta2, alpha=1 - beta2)

    def _compute_roots(self, active: Sequence[_Block]) -> None:
        """Compute all roots, those of equal size and exponent in one batch; waits for the device."""
        correction = 1 - self.settings.beta2**self.num_steps
        batches: dict[tuple[int, int], list[tuple[Tensor, Tensor, str]]] = defaultdict(list)
        for block in active:
            root = self.settings.inv_root_override or 2 * block.weights.dim()
            for factor, inverse in zip(block.per_dimension("factor"), block.per_dimension("root"), strict=True):
                batches[factor.shape[0], root].append((factor, inverse, block.key))
        for (_, root), members in batches.items():
            factors = torch.stack([factor for factor, *_ in members]) / correction
            previous = torch.stack([inverse for _, inverse, _ in members])
            is_finite = factors.isfinite().flatten(1).all(dim=1)
            if not bool(is_finite.all()):
                key = members[int((~is_finite).nonzero()[0])][2]
                raise SubmissionError(
                    f"the gradient statistics of block {key} are not finite at step {self.num_steps}",
                    where="DistributedShampoo",
                    hint="the gradients have diverged: try a smaller learning rate",
                )
            roots, num_failed = inverse_roots(factors, previous, root=root, epsilon=self.settings.epsilon)
            self.num_failed_roots += num_failed
            torch._foreach_copy_([inverse for _, inverse, _ in members], list(roots))

    def _filtered(self, active: Sequence[_Block], gradients: list[Tensor]) -> list[Tensor]:
        """Return the bias-corrected filtered gradients."""
        beta1 = self.settings.beta1
        if not beta1:
            return gradients
        averages = [block.tensors["filtered"] for block in active]
        torch._foreach_lerp_(averages, gradients, 1 - beta1)
        used = torch._foreach_lerp(averages, gradients, 1 - beta1) if self.settings.use_nadam else averages
        return list(torch._foreach_div(used, 1 - beta1**self.num_steps))

    def _grafted_direction(
        self, active: Sequence[_Block], gradients: list[Tensor], filtered: list[Tensor]
    ) -> list[Tensor]:
        settings = self.settings
        if settings.grafting is Grafting.SGD:
            return filtered
        second = [block.tensors["second"] for block in active]
        torch._foreach_mul_(second, settings.beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - settings.beta2)
        scale = torch._foreach_div(second, 1 - settings.beta2**self.num_steps)
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, settings.graft_epsilon)
        return list(torch._foreach_div(filtered, scale))

    def _preconditioned(
        self, active: Sequence[_Block], filtered: Sequence[Tensor], graft: list[Tensor]
    ) -> list[Tensor]:
        directions = []
        for block, gradient in zip(active, filtered, strict=True):
            direction = gradient
            for inverse in block.per_dimension("root"):
                # Contracting the first dimension moves it to the end: after all of them the order is restored.
                direction = torch.tensordot(direction, inverse, dims=([0], [0]))
            directions.append(direction)
        lengths = torch._foreach_norm(directions)
        torch._foreach_add_(lengths, _GRAFT_GUARD)
        ratios = torch._foreach_div(torch._foreach_norm(graft), lengths)
        return list(torch._foreach_mul(directions, list(ratios)))

    def _with_momentum(self, active: Sequence[_Block], direction: list[Tensor]) -> list[Tensor]:
        momentum = self.settings.momentum
        averages = [block.tensors["momentum"] for block in active]
        torch._foreach_lerp_(averages, direction, 1 - momentum)
        return list(torch._foreach_lerp(averages, direction, 1 - momentum))
