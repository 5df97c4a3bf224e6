"""From host batches to device batches, one ahead, on a stream of their own; and the position that belongs to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perfbench.api.workload import Batch, TrainStream


def moved_to(device: torch.device, batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """Yield the batches on ``device``; on CUDA the next one is copied while the current one is used.

    The copying stream waits for the consumer before each copy, and every copied tensor is recorded on the
    consumer's stream: memory that a running kernel still reads is never overwritten (without both, evaluation
    is wrong exactly when loading is fast).
    """
    if device.type != "cuda":
        yield from batches
        return
    copying = torch.cuda.Stream(device)
    consumer = torch.cuda.current_stream(device)
    ahead: Batch | None = None
    for batch in batches:
        copying.wait_stream(consumer)
        with torch.cuda.stream(copying):
            moved = {name: _pinned(tensor).to(device, non_blocking=True) for name, tensor in batch.items()}
        if ahead is not None:
            yield _handed_over(ahead, copying, consumer)
        ahead = moved
    if ahead is not None:
        yield _handed_over(ahead, copying, consumer)


def only_batches(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the batches: a submission gets this plain iterator, which has no position to read or to change."""
    for batch in batches:  # noqa: UP028 - `yield from` would close the stream together with this generator
        yield batch


def _pinned(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_pinned() else tensor.pin_memory()


def _handed_over(batch: Batch, copying: torch.cuda.Stream, consumer: torch.cuda.Stream) -> Batch:
    consumer.wait_stream(copying)
    for tensor in batch.values():
        tensor.record_stream(consumer)
    return batch


class DeviceBatches:
    """A training stream's batches on the device, with the position after the last batch that was *returned*.

    Batches that were loaded ahead do not count: resuming from :meth:`state_dict` repeats none and skips none.
    """

    def __init__(self, stream: TrainStream, device: torch.device) -> None:
        self._stream = stream
        self._device = device
        self._num_returned = 0
        self._positions: deque[dict[str, int]] = deque()
        self._position: dict[str, int] = {}
        self._moved: Generator[Batch, None, None]
        self._start(0)

    def __iter__(self) -> Iterator[Batch]:
        """Return the iterator itself."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch, on the device."""
        batch: Batch = next(self._moved)
        self._position = self._positions.popleft()
        self._num_returned += 1
        return batch

    def last_example_ids(self) -> NDArray[np.int64]:
        """Return the numbers of the examples in this rank's part of the last returned batch."""
        return self._stream.example_ids(self._num_returned - 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last returned batch."""
        return {"num_returned": self._num_returned, "position": dict(self._position)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Drop what was loaded ahead and continue from a position."""
        self._moved.close()
        self._stream.load_state_dict(state["position"])
        self._start(state["num_returned"])

    def close(self) -> None:
        """Stop background work."""
        self._moved.close()
        self._stream.close()

    def _start(self, num_returned: int) -> None:
        self._num_returned = num_returned
        self._positions = deque()
        self._position = self._stream.state_dict()
        self._moved = moved_to(self._device, self._with_positions())

    def _with_positions(self) -> Iterator[Batch]:
        for batch in self._stream:
            self._positions.append(self._stream.state_dict())
            yield batch
