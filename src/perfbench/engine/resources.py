"""Memory and use of this rank's host and device: counters that are read, never waited for."""

from __future__ import annotations

import contextlib
from typing import Any

import psutil
import torch


class Resources:
    """Reads what rank 0 uses; called every few seconds from the heartbeat's thread.

    The device's own numbers come from the driver's management library, not from the device's queue: asking for them
    waits for no kernel.
    """

    def __init__(self, device: torch.device) -> None:
        self._process = psutil.Process()
        self._device = device if device.type == "cuda" else None
        self._handle = None if self._device is None else _handle_of(self._device)

    def read(self) -> dict[str, float]:
        """Return sizes in bytes, shares between 0 and 1, power in watts and clocks in MHz."""
        found: dict[str, float] = {"host_memory_bytes": self._process.memory_info().rss}
        if self._device is not None:
            found["gpu_memory_bytes"] = torch.cuda.memory_allocated(self._device)
            found["gpu_memory_most_bytes"] = torch.cuda.max_memory_allocated(self._device)
        return found | self._driver_numbers()

    def _driver_numbers(self) -> dict[str, float]:
        if self._handle is None:
            return {}
        import pynvml

        found: dict[str, float] = {}
        with contextlib.suppress(pynvml.NVMLError):  # not every device answers every question
            found["gpu_use"] = pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
            found["gpu_clock_mhz"] = pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM)
            found["gpu_power_w"] = pynvml.nvmlDeviceGetPowerUsage(self._handle) / 1000
        return found


def _handle_of(device: torch.device) -> Any | None:  # noqa: ANN401 - pynvml has no types
    """Return the driver's handle, found by the device's identity: the driver numbers devices in its own way."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except pynvml.NVMLError:
        return None
