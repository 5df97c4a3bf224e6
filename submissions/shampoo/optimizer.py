"""Distributed Shampoo: Kronecker-factored preconditioning of blocks, grafted to the length of a simpler update.

Each rank holds the state of its own blocks only, updates those blocks of the parameters, and one collective spreads
them. Given equal gradients the result is the same, bit for bit on a CPU, for any number of ranks.

Source: Shi et al. (2023), "A Distributed Data-Parallel PyTorch Implementation of the Distributed Shampoo Optimizer";
settings and order of operations as measured on the AlgoPerf v0.5 entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from perfbench.api import TrainingDiverged
from perfbench.api.optim import GroupOptimizer
from perfbench.api.optim.block_exchange import BlockExchange, assign_greedily
from perfbench.api.optim.inverse_roots import inverse_roots
from perfbench.errors import SubmissionError
from submissions.shampoo.settings import Grafting, ShampooSettings
from submissions.shampoo.state import BlockState, OwnedBlock

_GRAFT_GUARD = 1e-16


class DistributedShampoo(GroupOptimizer):
    """Shampoo over the blocks of named parameters.

    For a block's gradient ``G`` at step ``t``, factors ``A_i = b2 A_i + (1 - b2) (G contracted with itself over all
    dimensions but i)``. From the first root step on, the filtered gradient is contracted with every
    ``(A_i / (1 - b2^t) + eps)^(-1/r)`` and scaled to the graft's length; before, the graft's direction is used.

    A step waits for the device only where roots are computed. State is per rank: every rank saves its own.

    Args:
        parameters: By name; the name is used in errors and in the state.
        settings: What to do.
        lr: Learning rate.
        rank: This rank in the default process group.
        num_ranks: All ranks.

    Raises:
        SubmissionError: If the parameters differ in dtype or device.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        settings: ShampooSettings,
        *,
        lr: float,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        super().__init__(list(parameters.values()), {"lr": lr})
        _check_alike(parameters)
        self.settings = settings
        self.num_steps = 0
        self.num_kept_roots = 0
        # Blocks are views, which a parameter in another memory format (channels last) cannot give: it is copied.
        self._copies = {
            name: (parameter.data, parameter.data.contiguous())
            for name, parameter in parameters.items()
            if not parameter.is_contiguous()
        }
        located = [
            (f"{name}/{index}", parameter, index, block)
            for name, parameter in parameters.items()
            for index, block in enumerate(settings.blocking.blocks(self._contiguous(name, parameter)))
        ]
        views = [block for *_, block in located]
        owners = assign_greedily([view.numel() * view.element_size() for view in views], num_ranks=num_ranks)
        self._exchange = BlockExchange(views, owners, rank=rank, num_ranks=num_ranks)
        self._numbers = {name: number for number, (name, *_) in enumerate(located)}
        self._blocks = [
            OwnedBlock(name, parameter, index, block, BlockState.start(block, settings))
            for (name, parameter, index, block), owner in zip(located, owners, strict=True)
            if owner == rank
        ]

    @property
    def buffer_bytes(self) -> int:
        """Size of the buffer that a step gathers from all ranks; 0 on one rank."""
        return self._exchange.num_bytes

    def _update_group(self, group: dict[str, Any]) -> None:
        """Update every parameter of the only group; all ranks step together.

        Raises:
            TrainingDiverged: On every rank, if a factor is not finite when roots are to be computed.
        """
        del group
        self.num_steps += 1
        for original, copy in self._copies.values():
            copy.copy_(original)
        active = [block for block in self._blocks if block.parameter.grad is not None]
        gradients = self._gradients(active)
        if self.settings.is_preconditioned:
            self._accumulate_factors(active, gradients)
            if self.num_steps % self.settings.precondition_frequency == 0:
                self._check_finite(active)  # all ranks, those without active blocks too
        if active:
            self._update(active, gradients)
        self._exchange.spread()
        for original, copy in self._copies.values():
            original.copy_(copy)

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's state: plain tensors and numbers."""
        return {
            "num_steps": self.num_steps,
            "num_kept_roots": self.num_kept_roots,
            "lr": self.param_groups[0]["lr"],
            "blocks": {block.name: block.state.tensors() for block in self._blocks},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore this rank's state in place.

        Raises:
            SubmissionError: If the state is of other blocks: another model, or another number of ranks.
        """
        saved = state_dict["blocks"]
        if set(saved) != {block.name for block in self._blocks}:
            raise SubmissionError(
                "the saved state is of other blocks than this rank owns",
                where="DistributedShampoo.load_state_dict",
                hint="resume with the same model and the same number of ranks",
            )
        self.num_steps = state_dict["num_steps"]
        self.num_kept_roots = state_dict["num_kept_roots"]
        self.param_groups[0]["lr"] = state_dict["lr"]
        for block in self._blocks:
            block.state.load(saved[block.name])

    def _contiguous(self, name: str, parameter: nn.Parameter) -> Tensor:
        return self._copies[name][1] if name in self._copies else parameter.data

    def _gradients(self, active: Sequence[OwnedBlock]) -> list[Tensor]:
        """Return the gradient of each block as a view."""
        cut: dict[nn.Parameter, list[Tensor]] = {}
        for block in active:
            if block.parameter not in cut:
                assert block.parameter.grad is not None, "only active blocks"
                cut[block.parameter] = self.settings.blocking.blocks(block.parameter.grad.contiguous())
        return [cut[block.parameter][block.index] for block in active]

    def _update(self, active: Sequence[OwnedBlock], gradients: list[Tensor]) -> None:
        settings, t = self.settings, self.num_steps
        if settings.is_preconditioned and t % settings.precondition_frequency == 0:
            self._compute_roots(active)
        filtered = self._filtered(active, gradients)
        direction = self._grafted_direction(active, gradients, filtered)
        if settings.is_preconditioned and t >= settings.precondition_frequency:
            direction = _scaled(_preconditioned(active, filtered), lengths_of=direction)
        weights = [block.weights for block in active]
        if settings.weight_decay:
            direction = list(torch._foreach_add(direction, weights, alpha=settings.weight_decay))
        if settings.momentum:
            averages = _present(block.state.momentum for block in active)
            torch._foreach_lerp_(averages, direction, 1 - settings.momentum)
            direction = list(torch._foreach_lerp(direction, averages, settings.momentum))
        torch._foreach_add_(weights, direction, alpha=-self.param_groups[0]["lr"])

    def _accumulate_factors(self, active: Sequence[OwnedBlock], gradients: Sequence[Tensor]) -> None:
        beta2 = self.settings.beta2
        for block, gradient in zip(active, gradients, strict=True):
            for dim, factor in enumerate(block.state.factors):
                unfolded = gradient.movedim(dim, 0).reshape(gradient.shape[dim], -1)
                factor.addmm_(unfolded, unfolded.T, beta=beta2, alpha=1 - beta2)

    def _check_finite(self, active: Sequence[OwnedBlock]) -> None:
        """Find out whether any rank has a factor that is not finite; waits for the device and for all ranks."""
        numbers = [self._numbers[block.name] for block in active for _ in block.state.factors]
        flags = [factor.isfinite().all() for block in active for factor in block.state.factors]
        is_finite = torch.stack(flags).tolist() if flags else []
        own = [number for number, is_good in zip(numbers, is_finite, strict=True) if not is_good]
        first = self._exchange.lowest_over_ranks(min(own, default=len(self._numbers)))
        if first < len(self._numbers):
            name = list(self._numbers)[first]
            raise TrainingDiverged(f"the gradient statistics of block {name} are not finite at step {self.num_steps}")

    def _compute_roots(self, active: Sequence[OwnedBlock]) -> None:
        """Compute the roots of all factors together; waits for the device."""
        owners = [block for block in active for _ in block.state.factors]
        correction = 1 - self.settings.beta2**self.num_steps
        factors = [factor / correction for block in active for factor in block.state.factors]
        previous = [root for block in active for root in block.state.roots]
        roots, num_kept = inverse_roots(
            factors,
            previous,
            exponents=[self.settings.exponent_for(block.weights.dim()) for block in owners],
            epsilon=self.settings.epsilon,
        )
        self.num_kept_roots += num_kept
        torch._foreach_copy_(previous, roots)

    def _filtered(self, active: Sequence[OwnedBlock], gradients: list[Tensor]) -> list[Tensor]:
        """Return the bias-corrected filtered gradients."""
        beta1 = self.settings.beta1
        if not beta1:
            return gradients
        averages = _present(block.state.filtered for block in active)
        torch._foreach_lerp_(averages, gradients, 1 - beta1)
        used = torch._foreach_lerp(averages, gradients, 1 - beta1) if self.settings.use_nadam else averages
        return list(torch._foreach_div(used, 1 - beta1**self.num_steps))

    def _grafted_direction(
        self, active: Sequence[OwnedBlock], gradients: list[Tensor], filtered: list[Tensor]
    ) -> list[Tensor]:
        settings = self.settings
        if settings.grafting is Grafting.SGD:
            return filtered
        second = _present(block.state.second for block in active)
        torch._foreach_mul_(second, settings.beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - settings.beta2)
        scale = torch._foreach_div(second, 1 - settings.beta2**self.num_steps)
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, settings.graft_epsilon)
        return list(torch._foreach_div(filtered, scale))


def _preconditioned(active: Sequence[OwnedBlock], filtered: Sequence[Tensor]) -> list[Tensor]:
    """Return each block's filtered gradient contracted with its root in every dimension."""
    directions = []
    for block, gradient in zip(active, filtered, strict=True):
        direction = gradient
        for root in block.state.roots:
            # Contracting the first dimension moves it to the end: after all of them the order is restored.
            direction = torch.tensordot(direction, root, dims=([0], [0]))
        directions.append(direction)
    return directions


def _scaled(directions: list[Tensor], *, lengths_of: list[Tensor]) -> list[Tensor]:
    """Give each direction the length of its graft: per block, not per parameter."""
    lengths = torch._foreach_norm(directions)
    torch._foreach_add_(lengths, _GRAFT_GUARD)
    ratios = torch._foreach_div(torch._foreach_norm(lengths_of), lengths)
    return list(torch._foreach_mul(directions, list(ratios)))


def _present(tensors: Iterable[Tensor | None]) -> list[Tensor]:
    """Return tensors that the settings say exist."""
    found = []
    for tensor in tensors:
        assert tensor is not None, "allocated according to the settings"
        found.append(tensor)
    return found


def _check_alike(parameters: Mapping[str, nn.Parameter]) -> None:
    kinds = {(parameter.dtype, parameter.device) for parameter in parameters.values()}
    if len(kinds) > 1:
        raise SubmissionError(
            f"all parameters must have one dtype and device, not {sorted(map(str, kinds))}",
            where="DistributedShampoo",
            hint="blocks of all parameters travel in one buffer: give each kind an instance of its own",
        )
