"""Cutting parameters into blocks: merge small dimensions, then cut large ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


def merged_dimensions(shape: Sequence[int], *, threshold: int) -> tuple[int, ...]:
    """Merge neighbouring dimensions, left to right, while their product stays within ``threshold``.

    Dimensions of size 1 are dropped first (one is kept if all are 1).

    >>> merged_dimensions((64, 3, 7, 7), threshold=1024)
    (192, 49)
    >>> merged_dimensions((512, 512, 3, 3), threshold=1024)
    (512, 512, 9)
    """
    sizes = [size for size in shape if size != 1] or [1]
    merged = [sizes[0]]
    for size in sizes[1:]:
        if merged[-1] * size <= threshold:
            merged[-1] *= size
        else:
            merged.append(size)
    return tuple(merged)


def cut_into_blocks(tensor: Tensor, *, max_dimension: int) -> list[Tensor]:
    """Return views of ``tensor`` cut into pieces of at most ``max_dimension`` per dimension, in row-major order."""
    pieces: list[Tensor] = [tensor]
    for axis in range(tensor.dim()):
        pieces = list(itertools.chain.from_iterable(piece.split(max_dimension, dim=axis) for piece in pieces))
    return pieces


@dataclass(frozen=True, slots=True)
class Blocking:
    """How a parameter is cut.

    Args:
        max_dimension: Largest side of a block.
        merge: Whether small dimensions are merged first.
    """

    max_dimension: int
    merge: bool = True

    def blocks(self, tensor: Tensor) -> list[Tensor]:
        """Return the blocks of a contiguous tensor as views that share its memory."""
        shape = merged_dimensions(tensor.shape, threshold=self.max_dimension) if self.merge else tuple(tensor.shape)
        return cut_into_blocks(tensor.view(shape), max_dimension=self.max_dimension)

    def num_blocks(self, shape: Sequence[int]) -> int:
        """Return into how many blocks a parameter of this shape is cut."""
        merged = merged_dimensions(shape, threshold=self.max_dimension) if self.merge else tuple(shape)
        return math.prod(-(-size // self.max_dimension) for size in merged)
