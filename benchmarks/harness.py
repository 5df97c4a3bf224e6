"""What the engine adds to a step: time per step in the engine over a bare PyTorch loop, in one run.

Both train the same model with the same optimizer on the same data. Blocks of steps alternate (machines are noisy):
the bare loop runs in the referee's process where it records an evaluation, while the trainer's is stopped.

    python -m benchmarks.harness [--workload criteo] [--blocks 24] [--steps 400]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.refereed import run_refereed
from benchmarks.targets_out_of_reach import never_reached
from perfbench.api import BoundLoss
from perfbench.api.optim import NAdamW
from perfbench.api.schedules import WarmupCosine
from perfbench.api.workload import Shard, Workload
from perfbench.compose import compose_run
from perfbench.data.prefetch import DeviceBatches
from perfbench.engine.referee.recorder import SilentRecorder
from perfbench.engine.trainer.compiling import bind_loss
from perfbench.engine.wire.devices import device_of
from perfbench.engine.wire.messages import Place
from perfbench.engine.wire.page import Page, page_file
from perfbench.engine.wire.team import Solo
from perfbench.launch.plan import plan_trial
from perfbench.launch.preflight import ensure_data
from perfbench.registry import build_workload
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Measurement, PhaseTimes
from perfbench.spec.run import TrialSpec

NUM_DISCARDED = 2
"""First blocks of each kind: caches and allocators settle."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="criteo")
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    trial = planned(arguments)
    ensure_data(trial.workload, Path(trial.data_root), lambda *_: None, may_prepare=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = TrialFolder.of(Path(temporary), trial)
        folder.claim(trial)
        recorder = measured(trial, folder, arguments.steps)
        report(recorder, arguments.steps)


def measured(trial: TrialSpec, folder: TrialFolder, num_steps: int) -> Alternating:
    """Run the trial with a trainer of its own, and the bare loop in this process while the trainer rests."""
    device = device_of(trial, Place())
    bare = BareLoop(build_workload(trial.workload, Path(trial.data_root)), trial, device)
    recorder = Alternating(lambda: bare.seconds_per_step(num_steps))
    run_refereed(trial, folder, recorder)
    return recorder


def planned(arguments: argparse.Namespace) -> TrialSpec:
    """Return a trial that evaluates (one small batch) after every block and checkpoints never."""
    request = compose_run(
        [
            *(f"workload={arguments.workload}", "submission=baseline", "trial=3", "evaluation=every_steps"),
            *(f"evaluation.every_steps={arguments.steps}", "ruleset.evaluated_splits=[validation]"),
            *("scale.checkpoint_period_s=1e9", never_reached(arguments.workload)),
            "workload.max_submission_time_s=1000000.0",
            f"workload.step_hint={arguments.steps * arguments.blocks}",
        ]
    )
    return plan_trial(request)


class BareLoop:
    """The same training as a person would write it in a script."""

    def __init__(self, workload: Workload, trial: TrialSpec, device: torch.device) -> None:
        point = trial.hyperparameters or {}
        self._model = workload.build_model(seed=0).to(device).train()
        self._loss: BoundLoss = bind_loss(workload, self._model, Solo())
        self._optimizer = NAdamW(
            self._model.parameters(),
            lr=1e-3,
            betas=(1 - float(str(point["one_minus_beta1"])), float(str(point["beta2"]))),
            weight_decay=float(str(point["weight_decay"])),
        )
        self._schedule = WarmupCosine(
            peak=float(str(point["learning_rate"])), horizon=trial.workload.step_hint, warmup=10
        )
        self._num_updates = 0
        stream = workload.train_batches(global_batch_size=trial.global_batch_size, seed=0, shard=Shard())
        self._batches = DeviceBatches(stream, device)
        self._device = device

    def seconds_per_step(self, num_steps: int) -> float:
        """Train a block of steps and return the mean time of one."""
        started_s = time.perf_counter()
        for _ in range(num_steps):
            batch = next(self._batches)
            self._optimizer.zero_grad(set_to_none=True)
            sums = self._loss(batch, label_smoothing=0.0)
            (sums.summed / sums.num_valid).backward()
            self._optimizer.param_groups[0]["lr"] = self._schedule(self._num_updates)
            self._num_updates += 1
            self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started_s) / num_steps


class Alternating(SilentRecorder):
    """A recorder that runs a block of the bare loop at every evaluation."""

    def __init__(self, bare_block: Callable[[], float]) -> None:
        self._bare_block = bare_block
        self._last_s = 0.0
        self.pairs: list[tuple[float, float]] = []
        self.stops_s: list[float] = []
        self._last_phases = PhaseTimes()
        self._bare_s: list[float] = []

    def measured(self, measurement: Measurement) -> None:
        """Take the engine's block that ended, then time one of the bare loop."""
        engine_s = measurement.submission_time_s - self._last_s
        self._last_s = measurement.submission_time_s
        phases = measurement.phases
        self.stops_s.append(_off_the_clock_s(phases) - _off_the_clock_s(self._last_phases) - sum(self._bare_s[-1:]))
        self._last_phases = phases
        started_s = time.perf_counter()
        self.pairs.append((engine_s, self._bare_block()))
        self._bare_s.append(time.perf_counter() - started_s)


def _off_the_clock_s(phases: PhaseTimes) -> float:
    return phases.wall_s() - phases.scored


def report(recorder: Alternating, num_steps: int) -> None:
    """Print the figures."""
    kept = recorder.pairs[NUM_DISCARDED:]
    engine_ms = [1e3 * engine_s / num_steps for engine_s, _ in kept]
    bare_ms = [1e3 * bare_s for _, bare_s in kept]
    # An engine block stands between two bare ones: against their mean, drift of the machine cancels.
    ratios = [
        engine / ((before + after) / 2)
        for engine, before, after in zip(engine_ms[1:], bare_ms, bare_ms[1:], strict=False)
    ]
    table = Table("per step", "median", "least", "most")
    for name, values, unit in (("engine", engine_ms, "ms"), ("bare loop", bare_ms, "ms"), ("ratio", ratios, "")):
        cells = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{value:.3f} {unit}".strip() for value in cells))
    console = Console()
    console.print(table)
    console.print(f"{len(ratios)} pairs of {num_steps} steps; ratio of totals {sum(engine_ms) / sum(bare_ms):.4f}")
    stops_ms = [1e3 * seconds for seconds in recorder.stops_s[NUM_DISCARDED:]]
    console.print(
        f"a segment's stop, evaluation of one small batch, save and go: median {statistics.median(stops_ms):.1f} ms, "
        "of which nothing is scored but prepare_for_eval, resume_training and state_dict"
    )
    console.print(f"looking at the flags and saying the step: {1e6 * flags_s():.2f} microseconds a step, scored")


def flags_s(num_steps: int = 200_000) -> float:
    """Return the seconds that a step spends on the page that referee and trainer share: the least of five rounds."""
    page, team = Page(page_file()), Solo()

    def look() -> None:
        page.set_step(1)
        team.exchange(page.flags())

    return min(timeit.repeat(look, number=num_steps, repeat=5)) / num_steps


if __name__ == "__main__":
    main()
