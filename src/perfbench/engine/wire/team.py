"""All that one rank knows of the others: sums, the largest, and agreement a few steps behind.

``Solo`` is one rank; ``ProcessTeam`` is a process group: the trainers form one, the referees another. Agreement and
timing run over the CPU (gloo), so they never touch the device; only ``add`` uses the group's own backend.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor

from perfbench.api.workload import Shard


class Team(Protocol):
    """One rank's view of all ranks."""

    @property
    def shard(self) -> Shard:
        """This rank's place."""
        ...

    @property
    def backend(self) -> str:
        """Name of the collective backend, ``none`` for one rank."""
        ...

    def exchange(self, flags: int) -> int:
        """Post this step's flags (bits) and return those on which all ranks now act, without waiting for slow ranks.

        A flag that any rank posted at step ``k`` is returned to every rank at step ``k + lag``, so all ranks act
        between the same two steps.
        """
        ...

    def settle(self) -> int:
        """Return flags that are still under way, joined; called by all ranks between the same two steps."""
        ...

    def add(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over ranks, as a new tensor."""
        ...

    def add_all(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums over ranks of named tensors."""
        ...

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the largest over ranks, value by value."""
        ...

    def texts(self, text: str) -> list[str]:
        """Return every rank's text, by rank."""
        ...

    def barrier(self) -> None:
        """Wait until every rank is here; only outside scored phases."""
        ...


class Solo:
    """One rank: agrees with itself at once."""

    shard = Shard()
    backend = "none"

    def exchange(self, flags: int) -> int:
        """Return the flags."""
        return flags

    def settle(self) -> int:
        """Return none: nothing is ever under way."""
        return 0

    def add(self, tensor: Tensor) -> Tensor:
        """Return the tensor."""
        return tensor

    def add_all(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors."""
        return dict(sums)

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the values."""
        return list(values)

    def texts(self, text: str) -> list[str]:
        """Return the text."""
        return [text]

    def barrier(self) -> None:
        """Do nothing."""


class ProcessTeam:
    """A process group.

    Args:
        lag_steps: After how many steps a flag takes effect. The exchange of step ``k`` is waited for at step
            ``k + lag_steps``, when it is long done unless a rank is that many steps behind.
        timeout: How long ranks wait for one another; ``None`` for torch's own.
    """

    def __init__(self, *, lag_steps: int = 2, timeout: timedelta | None = None) -> None:
        self.shard = Shard(rank=dist.get_rank(), num_ranks=dist.get_world_size())
        self.backend = str(dist.get_backend())
        # Flags travel beside gradients: a group of their own keeps the order of collectives in each one fixed.
        self._control = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=timeout))
        self._lag_steps = lag_steps
        self._under_way: deque[tuple[dist.Work, Tensor]] = deque()

    def exchange(self, flags: int) -> int:
        """Post this step's flags; return those posted ``lag_steps`` steps ago, joined over ranks."""
        posted = torch.tensor(flags, dtype=torch.int32)
        work = dist.all_reduce(posted, op=dist.ReduceOp.BOR, group=self._control, async_op=True)
        assert work is not None
        self._under_way.append((work, posted))
        return self._oldest() if len(self._under_way) > self._lag_steps else 0

    def settle(self) -> int:
        """Wait for flags under way and return them: between two short segments they would never arrive."""
        late = 0
        while self._under_way:
            late |= self._oldest()
        return late

    def _oldest(self) -> int:
        work, joined = self._under_way.popleft()
        work.wait()
        return int(joined.item())

    def add(self, tensor: Tensor) -> Tensor:
        """Return the sum over ranks."""
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def add_all(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums over ranks, with one collective for each dtype."""
        result: dict[str, Tensor] = {}
        for dtype in sorted({tensor.dtype for tensor in sums.values()}, key=str):
            named = {name: tensor for name, tensor in sorted(sums.items()) if tensor.dtype == dtype}
            flat = self.add(torch.cat([tensor.reshape(-1) for tensor in named.values()]))
            parts = flat.split([tensor.numel() for tensor in named.values()])
            result |= {
                name: part.reshape(tensor.shape) for (name, tensor), part in zip(named.items(), parts, strict=True)
            }
        return result

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the largest over ranks, value by value."""
        joined = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(joined, op=dist.ReduceOp.MAX, group=self._control)
        return [float(value) for value in joined.tolist()]

    def texts(self, text: str) -> list[str]:
        """Return every rank's text, by rank; as plain bytes, not as pickles."""
        own = torch.frombuffer(bytearray(text.encode() + b"\0"), dtype=torch.uint8)
        (longest,) = self.largest([float(own.numel())])
        padded = torch.zeros(int(longest), dtype=torch.uint8)
        padded[: own.numel()] = own
        gathered = [torch.empty_like(padded) for _ in range(self.shard.num_ranks)]
        dist.all_gather(gathered, padded, group=self._control)
        return [bytes(part.tolist()).partition(b"\0")[0].decode() for part in gathered]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        dist.barrier(group=self._control)
