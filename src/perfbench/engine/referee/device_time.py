"""What a trainer uses of the device while it should rest, as far as the driver tells."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container
from typing import Any

_NS_PER_US = 1000
_US_PER_S = 1_000_000


class DeviceTime:
    """Reads the driver's samples of how busy processes kept the device.

    Args:
        handle: The driver's handle of the device; ``None`` where there is none: then nothing is measured.
    """

    def __init__(self, handle: Any | None) -> None:  # noqa: ANN401 - pynvml has no types
        self._handle = handle
        self._since_us = 0

    def begin(self) -> None:
        """Count from here on."""
        self._since_us = time.time_ns() // _NS_PER_US

    def used_s(self, pids: Container[int]) -> float:
        """Return the seconds of device time that these processes have used since then.

        The driver samples a few times a second and knows processes by the host's numbers: inside of a container with
        numbers of its own nothing is found, and nothing is charged.
        """
        if self._handle is None:
            return 0.0
        import pynvml

        with contextlib.suppress(pynvml.NVMLError):
            samples = pynvml.nvmlDeviceGetProcessUtilization(self._handle, self._since_us)
            elapsed_s = time.time_ns() / _NS_PER_US / _US_PER_S - self._since_us / _US_PER_S
            shares = [s.smUtil / 100 for s in samples if s.pid in pids and s.timeStamp > self._since_us]
            return elapsed_s * max(shares, default=0.0)
        return 0.0
