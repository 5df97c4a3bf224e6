"""The state that a rank keeps for each block it owns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from submissions.shampoo.settings import Grafting, ShampooSettings


@dataclass(frozen=True, slots=True)
class BlockState:
    """State of one block; its tensors are only ever changed in place.

    ``filtered``, ``second`` and ``momentum`` have the block's shape and are ``None`` where the settings do not use
    them. ``factors`` and ``roots`` hold one matrix of shape ``[d, d]`` for each dimension ``d``, or nothing.
    """

    filtered: Tensor | None
    second: Tensor | None
    momentum: Tensor | None
    factors: tuple[Tensor, ...]
    roots: tuple[Tensor, ...]

    @staticmethod
    def start(block: Tensor, settings: ShampooSettings) -> BlockState:
        """Return the state before the first step: zeros."""

        def zeros() -> Tensor:
            return torch.zeros_like(block, memory_format=torch.contiguous_format)

        sizes = block.shape if settings.is_preconditioned else ()
        return BlockState(
            filtered=zeros() if settings.beta1 else None,
            second=zeros() if settings.grafting is Grafting.ADAM else None,
            momentum=zeros() if settings.momentum else None,
            factors=tuple(block.new_zeros(size, size) for size in sizes),
            roots=tuple(block.new_zeros(size, size) for size in sizes),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, the very ones that are trained with."""
        optional = {"filtered": self.filtered, "second": self.second, "momentum": self.momentum}
        return {
            **{name: tensor for name, tensor in optional.items() if tensor is not None},
            **{f"factor_{dim}": factor for dim, factor in enumerate(self.factors)},
            **{f"root_{dim}": root for dim, root in enumerate(self.roots)},
        }

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Overwrite all tensors in place with saved ones of the same names."""
        for name, tensor in self.tensors().items():
            tensor.copy_(saved[name])


@dataclass(frozen=True, slots=True)
class OwnedBlock:
    """A block that this rank updates."""

    name: str
    """Of its parameter, and its number in it."""
    parameter: nn.Parameter
    index: int
    """Among the blocks of its parameter."""
    weights: Tensor
    """View of the parameter."""
    state: BlockState
