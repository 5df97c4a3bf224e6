"""A pulse that a watching process can read: nothing is drawn by the process that trains."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping


class Heartbeat:
    """Emits a reading every so often (twice a second) from a thread that never touches the device.

    Args:
        read: Returns plain numbers that the loop keeps up to date; must not wait.
        emit: Records them.
        period_s: Time between two readings.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, object]],
        emit: Callable[[Mapping[str, object]], None],
        *,
        period_s: float = 0.5,
    ) -> None:
        self._read = read
        self._emit = emit
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop, after one last reading."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._period_s):
            self._emit(self._read())
        self._emit(self._read())
