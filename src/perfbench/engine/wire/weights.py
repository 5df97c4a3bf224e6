"""Weights in shared memory, by name: the trainer writes plain numbers there, the referee reads them from there."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from perfbench.engine.wire.page import set_size

_ALIGNMENT_BYTES = 64


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers by name, by the plain module's own walk."""
    return {**dict(nn.Module.named_parameters(model)), **dict(nn.Module.named_buffers(model))}


class WeightsMemory:
    """Room for every parameter and buffer of a model.

    Both sides build the same model, so both find the same places without a word about them.

    Args:
        descriptor: Of a memory file that both sides hold.
        model: Whose names, shapes and dtypes are laid out.
    """

    def __init__(self, descriptor: int, model: nn.Module) -> None:
        self._descriptor = descriptor
        self.layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in named_tensors(model).items()}
        self._offsets: dict[str, int] = {}
        self.num_bytes = 0
        for name, (dtype, shape) in self.layout.items():
            self._offsets[name] = self.num_bytes
            size_bytes = torch.Size(shape).numel() * dtype.itemsize
            self.num_bytes += -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        self._memory: mmap.mmap | None = None

    def allocate(self) -> None:
        """Make room; the referee does."""
        set_size(self._descriptor, max(self.num_bytes, mmap.PAGESIZE))

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors in, from any device; names, shapes and dtypes are those of the layout."""
        with torch.no_grad():
            for name, place in self._places():
                place.copy_(tensors[name])

    def read_into(self, model: nn.Module) -> None:
        """Copy everything into a model of the same layout."""
        tensors = named_tensors(model)
        with torch.no_grad():
            for name, place in self._places():
                tensors[name].copy_(place)

    def _places(self) -> Iterator[tuple[str, Tensor]]:
        if self._memory is None:
            self._memory = mmap.mmap(self._descriptor, max(self.num_bytes, mmap.PAGESIZE))
        for name, (dtype, shape) in self.layout.items():
            count = torch.Size(shape).numel()
            if count == 0:
                continue
            flat = torch.frombuffer(self._memory, dtype=dtype, count=count, offset=self._offsets[name])
            yield name, flat.reshape(shape)
