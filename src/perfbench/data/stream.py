"""A training stream over stored examples: reads ahead in a thread, stands exactly where its consumer is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from perfbench.api.workload import Batch

Rows = TypeVar("Rows")
Rows_co = TypeVar("Rows_co", covariant=True)


class Order(Protocol[Rows_co]):
    """Knows what each global batch holds; asked from the reading thread and from the consumer's."""

    def ranges(self, batch_index: int) -> Rows_co:
        """Return what this rank reads for global batch ``batch_index``, counted from 0."""
        ...

    def example_ids(self, batch_index: int) -> NDArray[np.int64]:
        """Return the numbers of the examples in it."""
        ...


class RowStream(Generic[Rows]):
    """Endless batches of one rank.

    Args:
        order: What each batch holds.
        fetch: Reads it into the tensors of a batch; called from the reading thread.
        num_ahead: How many batches to read ahead.
        num_readers: How many of them at once; ``fetch`` must then be safe to call from several threads.
    """

    def __init__(
        self, order: Order[Rows], fetch: Callable[[Rows], Batch], *, num_ahead: int = 2, num_readers: int = 1
    ) -> None:
        self._order = order
        self._fetch = fetch
        self._num_ahead = num_ahead
        self._reader = ThreadPoolExecutor(max_workers=num_readers, thread_name_prefix="train-reader")
        self._ahead: deque[Future[Batch]] = deque()
        self._num_returned = 0

    def __iter__(self) -> RowStream[Rows]:
        """Return the stream itself."""
        return self

    def __next__(self) -> Batch:
        """Return this rank's part of the next global batch."""
        while len(self._ahead) <= self._num_ahead:
            index = self._num_returned + len(self._ahead)
            self._ahead.append(self._reader.submit(self._read, index))
        batch = self._ahead.popleft().result()
        self._num_returned += 1
        return batch

    def example_ids(self, batch_index: int) -> NDArray[np.int64]:
        """Return the row numbers of this rank's part of a global batch."""
        return self._order.example_ids(batch_index)

    def state_dict(self) -> dict[str, int]:
        """Return how many batches were returned: the order follows from the seed."""
        return {"num_returned": self._num_returned}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue after so many batches."""
        self._forget_ahead()
        self._num_returned = state["num_returned"]

    def close(self) -> None:
        """Stop reading."""
        self._forget_ahead()
        self._reader.shutdown(wait=True, cancel_futures=True)

    def _read(self, batch_index: int) -> Batch:
        return self._fetch(self._order.ranges(batch_index))

    def _forget_ahead(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()
