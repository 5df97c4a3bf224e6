"""Tensors that lie in one storage: which those are, and how a view is laid over a storage again.

A buffer of bytes with typed views into it (what collectives gather into), a flat tensor and its parts, a reshaped
parameter: what is written to one of them is seen through the others, so a resume must not make copies of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Place = tuple[int, torch.device]
"""Where a storage begins."""


@dataclass(frozen=True)
class View:
    """How a tensor lies in its storage."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    """In elements."""
    first_byte: int
    """Where in the storage its first value is, or how far behind the first one of a parameter."""

    @classmethod
    def of(cls, tensor: Tensor) -> View:
        """Return how a tensor lies."""
        first_byte = int(tensor.storage_offset()) * tensor.element_size()
        return cls(tensor.dtype, tuple(tensor.shape), tensor.stride(), first_byte)

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> View:
        """Return what :meth:`plain` returned."""
        dtype, shape, stride, first_byte = plain
        return cls(getattr(torch, dtype), tuple(shape), tuple(stride), first_byte)

    def plain(self) -> list[Any]:
        """Return it as plain data."""
        return [str(self.dtype).removeprefix("torch."), list(self.shape), list(self.stride), self.first_byte]

    def moved(self, num_bytes: int) -> View:
        """Return the same view, so many bytes further."""
        return View(self.dtype, self.shape, self.stride, self.first_byte + num_bytes)

    def over(self, storage: torch.UntypedStorage) -> Tensor:
        """Return the tensor that lies so in a storage."""
        tensor = torch.empty(0, dtype=self.dtype, device=storage.device)
        return tensor.set_(storage, self.first_byte // self.dtype.itemsize, self.shape, self.stride)


def storage_place(tensor: Tensor) -> Place | None:
    """Return where a tensor's storage begins, ``None`` if it holds nothing."""
    storage = tensor.untyped_storage()
    return (storage.data_ptr(), tensor.device) if storage.nbytes() else None


def write(tensor: Tensor, values: Tensor) -> None:
    """Write values into a tensor of their shape; where it was expanded, one value stands for all."""
    once = tuple(slice(None) if step else slice(1) for step in tensor.stride())
    with torch.no_grad():
        tensor[once].copy_(values[once])
