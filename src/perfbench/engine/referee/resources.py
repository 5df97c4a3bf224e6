"""Memory and use of this rank's trainer and device: counters that are read, never waited for."""

from __future__ import annotations

import contextlib
from typing import Any

import psutil
import torch


class Resources:
    """Reads what rank 0 uses; called every few seconds from the heartbeat's thread.

    The device's numbers come from the driver's management library, not from the device's queue: asking for them waits
    for no kernel, and tells of all processes on the device.

    Args:
        device: Of this rank.
        trainer_pid: Whose memory is the trial's; the referee's own is told apart.
    """

    def __init__(self, device: torch.device, trainer_pid: int | None = None) -> None:
        self._own = psutil.Process()
        self._trainer = None if trainer_pid is None else psutil.Process(trainer_pid)
        self._memory_most_bytes = 0
        self.handle = None if device.type != "cuda" else _handle_of(device)

    def read(self) -> dict[str, float]:
        """Return sizes in bytes, shares between 0 and 1, power in watts and clocks in MHz."""
        found: dict[str, float] = {"referee_memory_bytes": self._own.memory_info().rss}
        found["host_memory_bytes"] = found["referee_memory_bytes"]
        if self._trainer is not None:
            with contextlib.suppress(psutil.Error):  # it has just ended
                found["host_memory_bytes"] = self._trainer.memory_info().rss
        return found | self._driver_numbers()

    def _driver_numbers(self) -> dict[str, float]:
        if self.handle is None:
            return {}
        import pynvml

        found: dict[str, float] = {}
        with contextlib.suppress(pynvml.NVMLError):  # not every device answers every question
            found["gpu_memory_bytes"] = int(pynvml.nvmlDeviceGetMemoryInfo(self.handle).used)
            self._memory_most_bytes = max(self._memory_most_bytes, int(found["gpu_memory_bytes"]))
            found["gpu_memory_most_bytes"] = self._memory_most_bytes
            found["gpu_use"] = pynvml.nvmlDeviceGetUtilizationRates(self.handle).gpu / 100
            found["gpu_clock_mhz"] = pynvml.nvmlDeviceGetClockInfo(self.handle, pynvml.NVML_CLOCK_SM)
            found["gpu_power_w"] = pynvml.nvmlDeviceGetPowerUsage(self.handle) / 1000
        return found


def _handle_of(device: torch.device) -> Any | None:  # noqa: ANN401 - pynvml has no types
    """Return the driver's handle, found by the device's identity: the driver numbers devices in its own way."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except pynvml.NVMLError:
        return None
