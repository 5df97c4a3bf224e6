"""A few steps of a submission on a workload, timed part by part and traced: where a step's time goes. Never scored.

Built on the contracts: one rank in this process, with the threads, the precision and the compiled loss of a trial, no
clock and no evaluation.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from perfbench.api.submission import Submission, TrainingContext
from perfbench.api.workload import Batch, LossSums, Shard, Workload
from perfbench.data.prefetch import DeviceBatches
from perfbench.engine.wire.determinism import require_determinism
from perfbench.engine.wire.devices import device_of
from perfbench.engine.wire.messages import Place
from perfbench.engine.wire.precision import autocast_of, set_precision
from perfbench.registry import build_workload, submission_builder
from perfbench.spec.run import TrialSpec
from perfbench.spec.seeds import Stream, stream_seed

PARTS = ("data", "forward", "backward", "optimizer", "communication")
_NUM_OPERATORS = 12


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """One operator of the traced steps."""

    name: str
    num_calls: int
    host_ms: float
    """In all traced steps, without what it calls."""
    device_ms: float


@dataclass(frozen=True, slots=True)
class StepProfile:
    """Where the time of a step goes."""

    device: str
    num_steps: int
    step_ms: float
    """Of a whole step, measured without looking inside."""
    part_ms: dict[str, float]
    """Per step; the device is waited for where a part ends, so that together they can be more than a step."""
    operators: tuple[OperatorTime, ...]
    compile_s: float
    """Of the first steps."""


class _Stopwatch:
    """Adds up the time of named parts; they may lie inside each other, and each has only its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._open: list[str] = []
        self._since_s = 0.0
        self.seconds: dict[str, float] = defaultdict(float)
        self.is_on = False

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside the block as a part's."""
        with record_function(name):
            if not self.is_on:
                yield
                return
            self._turn()
            self._open.append(name)
            try:
                yield
            finally:
                self._turn()
                self._open.pop()

    def _turn(self) -> None:
        wait_for(self._device)
        now_s = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now_s - self._since_s
        self._since_s = now_s


def profile_steps(trial: TrialSpec, *, num_steps: int, num_warmup: int, compiles: bool, trace: Path) -> StepProfile:
    """Run the steps and write the trace.

    Args:
        trial: Workload, submission and point; its folder is not touched.
        num_steps: Timed, and as many traced.
        num_warmup: Before, and not counted: compiling happens there.
        compiles: Whether the loss is compiled, as in a trial.
        trace: File for Perfetto or ``chrome://tracing``.

    Raises:
        SubmissionError: If the submission cannot be built.
        DataError: If the data is not prepared.
    """
    device = device_of(trial, Place())
    set_precision(trial.ruleset.precision)
    if trial.deterministic:
        require_determinism()
    workload = build_workload(trial.workload, Path(trial.data_root))
    build = submission_builder(trial.submission, trial.hyperparameters)
    torch.manual_seed(trial.trial_seed)
    model = workload.build_model(seed=stream_seed(trial.trial_seed, Stream.INIT)).to(device)
    model.train()
    watch = _Stopwatch(device)
    submission = build(_context(trial, workload, model, device, watch, compiles=compiles))
    seed = stream_seed(trial.trial_seed, Stream.DATA_ORDER)
    stream = workload.train_batches(global_batch_size=trial.global_batch_size, seed=seed, shard=Shard())
    batches = DeviceBatches(stream, device)
    step = _one_step(submission, batches, watch)
    try:
        with _backward_seen(watch):
            compile_s = _timed(step, num_warmup, device)
            step_s = _timed(step, num_steps, device) / num_steps
            watch.is_on = True
            _timed(step, num_steps, device)
            watch.is_on = False
            activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
            with profile(activities=activities) as traced:
                _timed(step, num_steps, device)
    finally:
        stream.close()
    traced.export_chrome_trace(str(trace))
    return StepProfile(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        num_steps=num_steps,
        step_ms=1000 * step_s,
        part_ms={name: 1000 * watch.seconds[name] / num_steps for name in PARTS},
        operators=tuple(_operators(traced)),
        compile_s=compile_s,
    )


def wait_for(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _context(
    trial: TrialSpec,
    workload: Workload,
    model: nn.Module,
    device: torch.device,
    watch: _Stopwatch,
    *,
    compiles: bool,
) -> TrainingContext:
    def plain_loss(batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        with autocast_of(trial.ruleset.precision, device):
            return workload.loss(model, batch, label_smoothing=label_smoothing)

    inner = plain_loss
    if compiles:
        inner = cast("Callable[..., LossSums]", torch.compile(plain_loss, fullgraph=True, dynamic=False))

    def loss(batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        with watch.part("forward"):
            return inner(batch, label_smoothing=label_smoothing)

    def add_over_ranks(tensor: Tensor) -> Tensor:
        with watch.part("communication"):
            return tensor.clone()

    return TrainingContext(
        model=model,
        loss=loss,
        local_loss=plain_loss,
        roles=workload.parameter_roles(model),
        loss_type=workload.loss_type,
        global_batch_size=trial.global_batch_size,
        step_hint=trial.workload.step_hint,
        max_steps=trial.max_steps,
        max_submission_time_s=trial.max_submission_time_s,
        eval_period_s=trial.workload.eval_period_s,
        target=trial.target,
        measurements=(),
        seed=stream_seed(trial.trial_seed, Stream.SUBMISSION),
        shard=Shard(),
        device=device,
        add_over_ranks=add_over_ranks,
        set_dropout=lambda rate: workload.set_dropout(model, rate),
        set_batch_norm=lambda mode: workload.set_batch_norm(model, mode),
    )


def _one_step(submission: Submission, batches: Iterator[Batch], watch: _Stopwatch) -> Callable[[], None]:
    def step() -> None:
        with watch.part("data"):
            batch = submission.data_selection(batches)
        with watch.part("optimizer"):  # what update_params does besides forward and backward passes
            submission.update_params(batch)

    return step


def _timed(step: Callable[[], None], number: int, device: torch.device) -> float:
    """Return the seconds that some steps take."""
    wait_for(device)
    began_s = time.perf_counter()
    for _ in range(number):
        step()
    wait_for(device)
    return time.perf_counter() - began_s


@contextmanager
def _backward_seen(watch: _Stopwatch) -> Iterator[None]:
    """Let the stopwatch see backward passes, however a submission calls them."""
    originals: dict[str, Callable[..., Any]] = {name: getattr(torch.autograd, name) for name in ("backward", "grad")}

    def seen(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - stands in for any function
            with watch.part("backward"):
                return original(*arguments, **named)

        return call

    for name, original in originals.items():
        setattr(torch.autograd, name, seen(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(torch.autograd, name, original)


def _operators(traced: profile) -> Sequence[OperatorTime]:
    """Return the operators that take most, by device where there is one."""
    found = [
        OperatorTime(
            name=one.key,
            num_calls=int(one.count),
            host_ms=one.self_cpu_time_total / 1000,
            device_ms=getattr(one, "self_device_time_total", 0.0) / 1000,
        )
        for one in traced.key_averages()
        if one.key not in PARTS
    ]
    ordered = sorted(found, key=lambda one: (one.device_ms, one.host_ms), reverse=True)
    return list(itertools.islice(ordered, _NUM_OPERATORS))
