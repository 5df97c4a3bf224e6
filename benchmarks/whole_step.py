"""A whole training step, on invented batches or real ones: compiled and eager, the optimizer's share, rates, memory.

    perfbench bench step WORKLOAD [--scale full] [--synthetic] [--batch N] [--precision P] [--submission S]

Invented batches need no data: any workload can be measured at full scale on any machine. On a GPU, what torch marks as
waiting for the device is counted too, and on a known card the rate is set against what its maker promises.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from perfbench.api.submission import BoundLoss, Submission, TrainingContext
from perfbench.api.workload import Batch, LossSums, Shard, Workload
from perfbench.engine.wire.precision import autocast_of, set_precision
from perfbench.spec.ruleset import Precision

NUM_BLOCKS = 5
_NUM_WATCHED_STEPS = 3
_LEAST_S = 1e-6

PEAK_TFLOPS = {
    "A100": {Precision.FP32: 19.5, Precision.TF32: 156.0, Precision.BF16: 312.0},
    "H100": {Precision.FP32: 67.0, Precision.TF32: 494.7, Precision.BF16: 989.4},
    "H200": {Precision.FP32: 67.0, Precision.TF32: 494.7, Precision.BF16: 989.4},
}
"""Dense, of the SXM forms. Source: NVIDIA's data sheets."""


@dataclass(kw_only=True)
class Measured:
    """What was seen; milliseconds are medians of blocks. ``None`` where there is no GPU to tell."""

    batch_size: int
    compile_s: float = 0.0
    compiled_ms: float = 0.0
    """Forward and backward."""
    eager_ms: float | None = None
    step_ms: float = 0.0
    """With everything that the submission does."""
    optimizer_share: float = 0.0
    examples_per_s: float = 0.0
    counted_per_s: float = 0.0
    """What the loss counts: tokens, labels, images."""
    tflop_per_step: float = 0.0
    """Products, convolutions, attention, recurrent layers; forward and backward."""
    tflops_per_s: float = 0.0
    share_of_peak: float | None = None
    num_recompiles: int = 0
    waits_per_step: float | None = None
    waits_by_place: dict[str, int] = field(default_factory=dict)
    launch_ms: float | None = None
    """Host time to launch a step right after a wait: near the step's, the host is the limit."""
    peak_memory_gib: float | None = None


class WholeStep:
    """One workload's training on one device.

    Args:
        workload: Built; with invented batches its data need not be there.
        batches: Of training, on the CPU, all of one form.
        batch_size: Examples of each.
        precision: Set for the whole process.
        device: Where to train.
    """

    def __init__(
        self, workload: Workload, batches: list[Batch], *, batch_size: int, precision: Precision, device: torch.device
    ) -> None:
        torch.compiler.reset()  # what was compiled before in this process counts towards dynamo's limit
        set_precision(precision)
        self._workload, self._precision, self._device = workload, precision, device
        self._batches = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
        self._batch_size = batch_size
        self._number = 0
        self.model = workload.build_model(seed=0).to(device).train()
        self._compiled = cast("BoundLoss", torch.compile(self._plain, fullgraph=True, dynamic=False))

    def measured(
        self,
        build: Callable[[TrainingContext], Submission],
        *,
        for_s: float,
        with_eager: bool,
        tell: Callable[[str], None],
    ) -> Measured:
        """Compile, train, and return what was seen; ``tell`` hears what comes next."""
        found = Measured(batch_size=self._batch_size)
        tell("compiling model and loss")
        started_s = time.perf_counter()
        self._forward_backward(self._compiled)
        self._drain()
        found.compile_s = time.perf_counter() - started_s
        tell(f"compiled in {found.compile_s:.1f} s; timing the compiled forward and backward pass")
        found.compiled_ms = self._milliseconds(lambda: self._forward_backward(self._compiled), for_s)
        tell("timing a whole step: what the submission compiles for itself comes first")
        submission = build(self._context())

        def step() -> None:
            submission.update_params(submission.data_selection(self._endless()))

        step()
        graphs = _num_graphs()  # a label smoothing of its own is a graph of its own
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        found.step_ms = self._milliseconds(step, for_s)
        found.optimizer_share = max(0.0, 1 - found.compiled_ms / found.step_ms)
        self._watch(found, step)
        found.num_recompiles = _num_graphs() - graphs
        self._count(found)
        if with_eager:
            tell("timing forward and backward pass without compilation")
            found.eager_ms = self._milliseconds(lambda: self._forward_backward(self._plain), for_s)
        return found

    def _plain(self, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        with autocast_of(self._precision, self._device):
            return self._workload.loss(self.model, batch, label_smoothing=label_smoothing)

    def _forward_backward(self, loss: Callable[..., LossSums]) -> Tensor:
        self.model.zero_grad(set_to_none=True)
        sums = loss(next(self._endless()), label_smoothing=0.0)
        (sums.summed / sums.num_valid).backward()
        return sums.num_valid

    def _endless(self) -> Iterator[Batch]:
        while True:
            self._number += 1
            yield self._batches[self._number % len(self._batches)]

    def _milliseconds(self, step: Callable[[], object], for_s: float) -> float:
        """Time blocks, the device drained before and after each; return the median per step."""
        step()
        self._drain()
        started_s = time.perf_counter()
        step()
        self._drain()
        once_s = max(time.perf_counter() - started_s, _LEAST_S)
        count = max(1, int(for_s / NUM_BLOCKS / once_s))
        blocks = []
        for _ in range(NUM_BLOCKS):
            started_s = time.perf_counter()
            for _ in range(count):
                step()
            self._drain()
            blocks.append((time.perf_counter() - started_s) / count)
        return 1e3 * statistics.median(blocks)

    def _watch(self, found: Measured, step: Callable[[], None]) -> None:
        """Count waits and take the memory's peak, where there is a GPU."""
        if self._device.type != "cuda":
            return
        found.peak_memory_gib = torch.cuda.max_memory_allocated(self._device) / 2**30
        with waits_by_place() as seen:
            for _ in range(_NUM_WATCHED_STEPS):
                step()
        found.waits_by_place = seen
        found.waits_per_step = sum(seen.values()) / _NUM_WATCHED_STEPS
        self._drain()
        started_s = time.perf_counter()
        step()
        found.launch_ms = 1e3 * (time.perf_counter() - started_s)
        self._drain()

    def _count(self, found: Measured) -> None:
        """Fill in rates and the work of a step."""
        with FlopCounterMode(display=False) as counter:
            num_counted = float(self._forward_backward(self._plain))
        found.examples_per_s = self._batch_size / found.step_ms * 1e3
        found.counted_per_s = num_counted / found.step_ms * 1e3
        found.tflop_per_step = counter.get_total_flops() / 1e12
        found.tflops_per_s = found.tflop_per_step / found.compiled_ms * 1e3
        peak = peak_tflops(self._device, self._precision)
        found.share_of_peak = None if peak is None else found.tflops_per_s / peak

    def _drain(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _context(self) -> TrainingContext:
        spec = self._workload.spec
        return TrainingContext(
            model=self.model,
            loss=self._compiled,
            local_loss=self._plain,
            roles=self._workload.parameter_roles(self.model),
            loss_type=self._workload.loss_type,
            global_batch_size=self._batch_size,
            step_hint=spec.step_hint,
            max_steps=None,
            max_submission_time_s=spec.max_submission_time_s,
            eval_period_s=spec.eval_period_s,
            target=next(iter(spec.targets.values())),
            measurements=(),
            seed=0,
            shard=Shard(),
            device=self._device,
            add_over_ranks=lambda tensor: tensor.clone(),
            set_dropout=lambda rate: self._workload.set_dropout(self.model, rate),
            set_batch_norm=lambda mode: self._workload.set_batch_norm(self.model, mode),
        )


def num_parameters(model: nn.Module) -> int:
    """Return how many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters())


def peak_tflops(device: torch.device, precision: Precision) -> float | None:
    """Return what a card's maker promises, ``None`` for an unknown card."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peaks[precision] for card, peaks in PEAK_TFLOPS.items() if card in name), None)


@contextmanager
def waits_by_place() -> Iterator[dict[str, int]]:
    """Count what torch marks as waiting for a CUDA device, by the place that asked; empty until the end."""
    seen: dict[str, int] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode("default")
            for message in caught:
                if "called a synchronizing" in str(message.message):
                    place = "/".join(Path(message.filename).parts[-3:]) + f":{message.lineno}"
                    seen[place] = seen.get(place, 0) + 1


def _num_graphs() -> int:
    return int(counters["stats"]["unique_graphs"])
