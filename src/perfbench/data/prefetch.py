"""From host batches to device batches, one ahead, on a stream of their own; and the position that belongs to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from perfbench.api.workload import Batch, TrainStream
from perfbench.data.pinning import PinningLoader


def moved_to(device: torch.device, batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """Yield the batches on ``device``; on CUDA the next one is loaded and copied while the current one is used.

    A thread loads into pinned memory. The consumer waits for the event of its own batch, not for the copying stream:
    that one is busy with the next batch already, and waiting for it would hide nothing. The copying stream waits for
    the consumer before each copy, and every copied tensor is recorded on the consumer's stream: memory that a running
    kernel still reads is never overwritten (without both, evaluation is wrong exactly when loading is fast).
    """
    if device.type != "cuda":
        yield from batches
        return
    copying = torch.cuda.Stream(device)
    loader = PinningLoader(batches, device)
    try:
        ahead: _Copy | None = None
        for buffer in loader:
            copy = _Copy(buffer.batch, device, copying)
            loader.give_back(buffer, copied=copy.event)
            if ahead is not None:
                yield ahead.handed_over()
            ahead = copy
        if ahead is not None:
            yield ahead.handed_over()
    finally:
        loader.close()


class _Copy:
    """A batch on its way to the device, and the event that says that it is there."""

    def __init__(self, pinned: Batch, device: torch.device, copying: torch.cuda.Stream) -> None:
        self._device = device
        copying.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(copying):
            self._batch = {name: tensor.to(device, non_blocking=True) for name, tensor in pinned.items()}
        self.event = torch.cuda.Event(blocking=True)  # whoever waits on the host sleeps
        self.event.record(copying)

    def handed_over(self) -> Batch:
        """Return the batch for use on the current stream; the copy lets go of it."""
        consumer = torch.cuda.current_stream(self._device)
        consumer.wait_event(self.event)
        batch, self._batch = self._batch, {}
        for tensor in batch.values():
            tensor.record_stream(consumer)
        return batch


def only_batches(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the batches: a submission gets this plain iterator, which has no position to read or to change."""
    for batch in batches:  # noqa: UP028 - `yield from` would close the stream together with this generator
        yield batch


class DeviceBatches:
    """A training stream's batches on the device, with the position after the last batch that was *returned*.

    On a GPU the stream is read by the loading thread.
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

    @property
    def num_returned(self) -> int:
        """Batches that somebody took, those of earlier attempts included."""
        return self._num_returned

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
