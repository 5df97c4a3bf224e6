"""What the heartbeat reads: never from the device's queue."""

from __future__ import annotations

import subprocess
import sys
import types

import psutil
import pytest
import torch

from perfbench.engine.referee.resources import Resources


def test_on_a_cpu_the_process_memory_is_read() -> None:
    """The trial's memory is the trainer's; the referee's own is told apart."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as trainer:
        found = Resources(torch.device("cpu"), trainer.pid).read()
        trainer.kill()

    assert found.keys() == {"host_memory_bytes", "referee_memory_bytes"}
    assert found["referee_memory_bytes"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert 0 < found["host_memory_bytes"] < found["referee_memory_bytes"]


class NoAnswerError(Exception):
    """What the driver's library raises where a device does not answer a question."""


def driver(*, answers_power: bool) -> types.ModuleType:
    """Return a stand-in for the driver's management library with one device."""

    def power(handle: str) -> int:
        if not answers_power:
            raise NoAnswerError
        return 350_000

    used = iter((7, 5))
    module = types.ModuleType("pynvml")
    vars(module).update(
        NVMLError=NoAnswerError,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: {"GPU-1234": "handle"}[name],
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=next(used)),
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
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("the device was waited for"))

    resources = Resources(torch.device("cuda", 0))
    resources.read()
    found = resources.read()

    del found["host_memory_bytes"], found["referee_memory_bytes"]
    expected = {"gpu_memory_bytes": 5, "gpu_memory_most_bytes": 7, "gpu_use": 0.93, "gpu_clock_mhz": 1980}
    assert found == expected | ({"gpu_power_w": 350.0} if answers_power else {})
