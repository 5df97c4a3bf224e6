"""Host batches in pinned memory: a thread of its own loads them into a ring of buffers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue

import torch

from perfbench.api.workload import Batch

NUM_BUFFERS = 3
"""One is copied to the device, one is full, one is being filled."""


class PinnedBuffer:
    """Memory for one batch, from which the device copies by itself."""

    def __init__(self) -> None:
        self.batch: Batch = {}
        self._copied: torch.cuda.Event | None = None

    def fill(self, batch: Batch) -> None:
        """Copy a batch into the buffer, as soon as the device has read what stands there."""
        if self._copied is not None:
            self._copied.synchronize()
        if _form(self.batch) != _form(batch):  # the first time, and where another split follows
            self.batch = {name: torch.empty_like(tensor, pin_memory=True) for name, tensor in batch.items()}
        for name, tensor in batch.items():
            self.batch[name].copy_(tensor)

    def keep_until(self, copied: torch.cuda.Event) -> None:
        """Leave the content as it is until the device has reached an event."""
        self._copied = copied


class PinningLoader(Iterator[PinnedBuffer]):
    """Loads batches ahead, in a thread, so that whoever trains neither loads nor copies in host memory.

    Every buffer must be given back by :meth:`give_back`.

    Args:
        batches: Read by the thread alone, until it is closed.
        device: To which the buffers will be copied.
    """

    def __init__(self, batches: Iterable[Batch], device: torch.device) -> None:
        self._batches = batches
        self._device_index = torch.cuda.current_device() if device.index is None else device.index
        self._free: SimpleQueue[PinnedBuffer] = SimpleQueue()
        self._full: SimpleQueue[PinnedBuffer | BaseException | None] = SimpleQueue()
        self._is_closed = False
        for _ in range(NUM_BUFFERS):
            self._free.put(PinnedBuffer())
        self._thread = threading.Thread(target=self._load, name="pinning-loader", daemon=True)
        self._thread.start()

    def __next__(self) -> PinnedBuffer:
        """Return the next batch; wait until it is loaded."""
        loaded = self._full.get()
        if loaded is None:
            raise StopIteration
        if isinstance(loaded, BaseException):
            raise loaded
        return loaded

    def give_back(self, buffer: PinnedBuffer, *, copied: torch.cuda.Event) -> None:
        """Let a buffer be filled again once the device has reached ``copied``."""
        buffer.keep_until(copied)
        self._free.put(buffer)

    def close(self) -> None:
        """Stop the thread; a batch that it is reading is read to its end."""
        self._is_closed = True
        self._free.put(PinnedBuffer())  # wakes it up
        self._thread.join()

    def _load(self) -> None:
        try:
            # A thread starts on the first device, and would take memory there.
            torch.cuda.set_device(self._device_index)
            for batch in self._batches:
                buffer = self._free.get()
                if self._is_closed:
                    return
                buffer.fill(batch)
                self._full.put(buffer)
        except BaseException as problem:  # noqa: BLE001 - whatever it is, the thread that trains is told
            self._full.put(problem)
        else:
            self._full.put(None)


def _form(batch: Batch) -> list[tuple[object, ...]]:
    return [(name, tensor.shape, tensor.stride(), tensor.dtype) for name, tensor in batch.items()]
