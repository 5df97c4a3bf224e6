"""What ``perfbench doctor --gpu`` looks at: each takes seconds, says what it saw, and raises where something is wrong.

The process's precision is as it was afterwards.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from perfbench.api.workload import Batch
from perfbench.data.modules import seeded
from perfbench.data.prefetch import moved_to
from perfbench.engine.wire.precision import expected_precision, precision_as_before, precision_now, set_precision
from perfbench.spec.ruleset import Precision

_DEVICE = torch.device("cuda")
_SIDE = 8192
_NUM_BLOCKS = 5
_COARSER = 10
"""Times that TF32's error is above float32's, at least."""
_MOST_NOT_HIDDEN = 0.5
_NCCL = """
import sys, torch, torch.distributed as dist
torch.cuda.set_device(0)
device = torch.device("cuda", 0)
dist.init_process_group("nccl", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1, device_id=device)
value = torch.ones(3, device="cuda")
dist.all_reduce(value)
assert value.tolist() == [1.0, 1.0, 1.0]
dist.destroy_process_group()
"""


def checks() -> list[tuple[str, Callable[[], str]]]:
    """Return all checks by name, in order; without a GPU the one that says so."""
    if not torch.cuda.is_available():
        return [("gpu", card)]
    return [
        ("gpu", card),
        ("gpu: driver's library", driver_library),
        ("gpu: precision", precision),
        ("gpu: generators", generators),
        ("gpu: nccl", nccl),
        ("gpu: prefetch", prefetch),
        ("gpu: products", products),
        ("gpu: copies", copies),
    ]


def card() -> str:
    """Return what torch says of the first card."""
    if not torch.cuda.is_available():
        message = "no GPU that torch can use"
        raise RuntimeError(message)
    found = torch.cuda.get_device_properties(0)
    size, cudnn = found.total_memory / 2**30, torch.backends.cudnn.version()
    return f"{found.name}, {size:.0f} GiB, {found.multi_processor_count} processors, cuDNN {cudnn}"


def driver_library() -> str:
    """Ask NVML for clock, power and memory, which records have for every trial."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    clock_mhz = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
    power_w = pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3
    return f"driver {pynvml.nvmlSystemGetDriverVersion()}, {clock_mhz} MHz, {power_w:.0f} W"


@precision_as_before()
def precision() -> str:
    """Set each precision, read it back, and see in a product of matrices that it is at work."""
    factors = torch.randn(2, 1024, 1024, device=_DEVICE)
    exact = factors[0].double() @ factors[1].double()
    errors = {}
    for rule in Precision:
        set_precision(rule)
        now, expected = precision_now(rule, _DEVICE), expected_precision(rule)
        if now != expected:
            message = f"{rule} was set, and torch says {now}"
            raise RuntimeError(message)
        errors[rule] = float((factors[0] @ factors[1] - exact).abs().max())
    if errors[Precision.TF32] < _COARSER * errors[Precision.FP32]:
        message = f"tf32 changes nothing: errors {errors}"
        raise RuntimeError(message)
    return ", ".join(f"{rule} off by {error:.1e}" for rule, error in errors.items())


def generators() -> str:
    """See that building a model leaves the device's generator alone, and that two seeds give two masks."""
    masks = []
    for rank in range(2):
        torch.manual_seed(100 + rank)
        with seeded(7):
            torch.nn.Linear(4, 4)
        masks.append(torch.rand(1000, device=_DEVICE))
    if torch.equal(*masks):
        message = "two ranks draw the same numbers: dropout would be the same on all of them"
        raise RuntimeError(message)
    return "ranks draw different numbers after building the same model"


def nccl() -> str:
    """Let a process group of one add a number."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _NCCL, str(Path(folder) / "rendezvous")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if ended.returncode:
        message = f"a group of one does not add: {' '.join(ended.stderr.strip().splitlines()[-1:])}"
        raise RuntimeError(message)
    return f"version {'.'.join(map(str, torch.cuda.nccl.version()))}, a group of one adds"


def prefetch() -> str:
    """Compare steps on batches that are on the device with steps on batches that are brought there."""
    host = [{"x": torch.randint(0, 255, (128, 3, 224, 224), dtype=torch.uint8)} for _ in range(3)]
    weight = torch.randn(4096, 4096, device=_DEVICE)
    resident = {"x": host[0]["x"].to(_DEVICE)}
    pinned = host[0]["x"].pin_memory()

    def step(batch: Batch) -> None:
        out = weight
        for _ in range(4):
            out = out @ weight * 1e-4
        _ = out.sum() + batch["x"][0, 0, 0, 0]

    moved = moved_to(_DEVICE, _endless(host))
    alone_s = _seconds(lambda: step(resident))
    fed_s = _seconds(lambda: step(next(moved)))
    copy_s = _seconds(lambda: pinned.to(_DEVICE, non_blocking=True))
    moved.close()
    share = (fed_s - alone_s) / copy_s
    seen = f"{share:.0%} of a copy of {1e3 * copy_s:.2f} ms is not hidden behind a step of {1e3 * alone_s:.2f} ms"
    if share > _MOST_NOT_HIDDEN:
        raise RuntimeError(seen)
    return seen


@precision_as_before()
def products() -> str:
    """Measure the rate of a large product of matrices in each precision."""
    rates = []
    for rule, dtype in (
        (Precision.FP32, torch.float32),
        (Precision.TF32, torch.float32),
        (Precision.BF16, torch.bfloat16),
    ):
        set_precision(rule)
        one, other = (torch.randn(_SIDE, _SIDE, device=_DEVICE, dtype=dtype) for _ in range(2))
        seconds = _seconds(lambda one=one, other=other: one @ other)  # type: ignore[misc]
        rates.append(f"{rule} {2 * _SIDE**3 / seconds / 1e12:.0f}")
    return ", ".join(rates) + " TFLOP/s"


def copies() -> str:
    """Measure copies on the device, and from the host with and without pinned memory."""
    source = torch.randn(2**27, device=_DEVICE)
    target = torch.empty_like(source)
    on_device = 2 * source.nbytes / _seconds(lambda: target.copy_(source)) / 1e9
    host = torch.randint(0, 255, (64 * 2**20,), dtype=torch.uint8)
    pinned = host.pin_memory()
    from_host = [
        tensor.nbytes / _seconds(lambda tensor=tensor: tensor.to(_DEVICE, non_blocking=True)) / 1e9  # type: ignore[misc]
        for tensor in (pinned, host)
    ]
    return f"{on_device:,.0f} GB/s on the device, {from_host[0]:.1f} from pinned memory, {from_host[1]:.1f} from other"


def _endless(batches: list[Batch]) -> Iterator[Batch]:
    while True:
        yield from batches


def _seconds(step: Callable[[], object], *, for_s: float = 0.3, most: int = 100) -> float:
    """Return the seconds of a step: the median of blocks, the device drained around each."""

    def block(count: int) -> float:
        torch.cuda.synchronize()
        started_s = time.perf_counter()
        for _ in range(count):
            step()
        torch.cuda.synchronize()
        return (time.perf_counter() - started_s) / count

    block(2)
    count = max(1, min(most, int(for_s / _NUM_BLOCKS / block(1))))
    return statistics.median(block(count) for _ in range(_NUM_BLOCKS))
