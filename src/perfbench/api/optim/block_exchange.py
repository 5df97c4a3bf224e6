"""Which rank owns which block, and the one buffer that carries all updated blocks to all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

_ALIGNMENT_BYTES = 64

# torch 2.14 renames the collective and warns about the old name; torch 2.13 knows only the old one.
_ALL_GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


def assign_greedily(sizes_bytes: Sequence[int], *, num_ranks: int) -> list[int]:
    """Return the owner of each block: largest first, each to the rank with the least so far.

    Sizes are rounded up to 64 bytes; ties go to the lower rank.

    >>> assign_greedily([128, 64, 500, 256], num_ranks=2)
    [1, 1, 0, 1]
    """
    aligned = [-(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for size in sizes_bytes]
    loads = [0] * num_ranks
    owners = [0] * len(aligned)
    for index in sorted(range(len(aligned)), key=lambda index: -aligned[index]):
        owner = loads.index(min(loads))
        owners[index] = owner
        loads[owner] += aligned[index]
    return owners


class BlockExchange:
    """Spreads every rank's updated blocks to all ranks with one collective per step.

    Args:
        blocks: All blocks, as views of the parameters, in the same order on every rank.
        owners: Rank of each block.
        rank: This rank.
        num_ranks: All ranks.
    """

    def __init__(self, blocks: Sequence[Tensor], owners: Sequence[int], *, rank: int, num_ranks: int) -> None:
        self._num_ranks = num_ranks
        if num_ranks == 1 or not blocks:
            self._num_ranks = 1
            return
        by_rank = [[b for b, owner in zip(blocks, owners, strict=True) if owner == r] for r in range(num_ranks)]
        length = max(sum(block.numel() for block in owned) for owned in by_rank)
        self._buffer = torch.zeros(num_ranks * length, dtype=blocks[0].dtype, device=blocks[0].device)
        slots = [_slots(self._buffer[r * length : (r + 1) * length], by_rank[r]) for r in range(num_ranks)]
        self._own_part = self._buffer[rank * length : (rank + 1) * length]
        self._own, self._own_slots = by_rank[rank], slots[rank]
        self._others = [b for r in range(num_ranks) if r != rank for b in by_rank[r]]
        self._other_slots = [s for r in range(num_ranks) if r != rank for s in slots[r]]

    @property
    def num_bytes(self) -> int:
        """How many bytes every rank receives per step."""
        return self._buffer.numel() * self._buffer.element_size() if self._num_ranks > 1 else 0

    def spread(self) -> None:
        """Send this rank's blocks and overwrite the others' with what arrives."""
        if self._num_ranks == 1:
            return
        if self._own:
            torch._foreach_copy_(self._own_slots, self._own)
        _ALL_GATHER(self._buffer, self._own_part)
        if self._others:
            torch._foreach_copy_(self._others, self._other_slots)

    def lowest_over_ranks(self, number: int) -> int:
        """Return the lowest of all ranks' numbers; waits for the device."""
        if self._num_ranks == 1:
            return number
        lowest = torch.tensor(number, device=self._buffer.device)
        dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
        return int(lowest)


def _slots(part: Tensor, blocks: Sequence[Tensor]) -> list[Tensor]:
    """Return views of ``part``, one per block, one after another."""
    slots, offset = [], 0
    for block in blocks:
        slots.append(part[offset : offset + block.numel()].view(block.shape))
        offset += block.numel()
    return slots
