"""How long training waited for its batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

_NS_PER_S = 1_000_000_000
Item = TypeVar("Item")


class DataWait:
    """How long the host has waited for training batches: a part of the scored phase, on no account of its own."""

    def __init__(self) -> None:
        self._spent_ns = 0
        self._now_ns = time.perf_counter_ns

    def timed(self, batches: Iterator[Item]) -> Iterator[Item]:
        """Yield the batches; costs two readings of the host's clock each, and never waits for the device."""
        while True:
            asked_ns = self._now_ns()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._spent_ns += self._now_ns() - asked_ns
            yield batch

    def spent_s(self) -> float:
        """Return the seconds so far."""
        return self._spent_ns / _NS_PER_S
