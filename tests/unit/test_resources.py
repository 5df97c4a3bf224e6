"""What the heartbeat reads: never from the device's queue."""

from __future__ import annotations

import sys
import types

import psutil
import pytest
import torch

from perfbench.engine.resources import Resources


def test_on_a_cpu_the_process_memory_is_read() -> None:
    found = Resources(torch.device("cpu")).read()

    assert found.keys() == {"host_memory_bytes"}
    assert found["host_memory_bytes"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


class NoAnswerError(Exception):
    """What the driver's library raises where a device does not answer a question."""


def driver(*, answers_power: bool) -> types.ModuleType:
    """Return a stand-in for the driver's management library with one device."""

    def power(handle: str) -> int:
        if not answers_power:
            raise NoAnswerError
        return 350_000

    module = types.ModuleType("pynvml")
    vars(module).update(
        NVMLError=NoAnswerError,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: {"GPU-1234": "handle"}[name],
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=93),
        nvmlDeviceGetClockInfo=lambda handle, kind: 1980,
        nvmlDeviceGetPowerUsage=power,
    )
    return module


@pytest.mark.parametrize("answers_power", [True, False])
def test_a_gpu_is_read_through_its_driver(monkeypatch: pytest.MonkeyPatch, answers_power: bool) -> None:
    """With stand-ins for driver and device: there is no GPU here."""
    monkeypatch.setitem(sys.modules, "pynvml", driver(answers_power=answers_power))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="1234"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("the device was waited for"))

    found = Resources(torch.device("cuda", 0)).read()

    del found["host_memory_bytes"]
    expected = {"gpu_memory_bytes": 5, "gpu_memory_most_bytes": 7, "gpu_use": 0.93, "gpu_clock_mhz": 1980}
    assert found == expected | ({"gpu_power_w": 350.0} if answers_power else {})
