"""What a W&B mirror beside a trial costs: time per step with the mirror running over time with it stopped.

One trial, one mirror process, a service on loopback that accepts, hangs, errors or resets. Blocks of steps alternate:
in every second one all processes of the mirror are stopped (SIGSTOP), and what they have missed they do in the next. So
the ratio counts all of the mirror's work in half of the time, and the machine's drift cancels.

    python -m benchmarks.mirror [--mode hang] [--workload criteo] [--blocks 24] [--steps 1500]
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.harness import planned
from benchmarks.refereed import run_refereed
from perfbench.engine.referee.recorder import FolderRecorder
from perfbench.launch.preflight import ensure_data
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Measurement, Resumed, TrialResult
from perfbench.spec.run import WandbTracking
from perfbench.tracking.beside import mirrored
from tests.wandb_service import serving

NUM_DISCARDED = 4
"""First blocks: W&B is imported in them, which a trial does while it compiles."""


class Alternating:
    """A recorder that stops the mirror at every second evaluation and lets it go on at the others."""

    def __init__(self, folder: TrialFolder) -> None:
        self._recorder = FolderRecorder(folder)
        self.history = self._recorder.history
        self._last_s = 0.0
        self._is_running = True
        self.blocks: list[tuple[bool, float]] = []
        """Whether the mirror ran, and how long the block took."""
        self._start = (0.0, 0.0)
        self._most_cpu_s = 0.0
        self.cpu_share = 0.0
        """Of one core, over the whole time after the first blocks."""

    def measured(self, measurement: Measurement) -> None:
        """Note the block that ended, then turn the mirror on or off."""
        self._recorder.measured(measurement)
        self.blocks.append((self._is_running, measurement.submission_time_s - self._last_s))
        self._last_s = measurement.submission_time_s
        self._is_running = not self._is_running or len(self.blocks) < NUM_DISCARDED
        processes = mirror_processes()
        self._most_cpu_s = max(self._most_cpu_s, cpu_s(processes))  # a process that has ended is not asked again
        if len(self.blocks) == NUM_DISCARDED:
            self._start = (self._most_cpu_s, time.monotonic())
        self.cpu_share = (self._most_cpu_s - self._start[0]) / max(1e-9, time.monotonic() - self._start[1])
        signal_all(processes, signal.SIGCONT if self._is_running else signal.SIGSTOP)

    def resumed(self, record: Resumed) -> None:
        """Pass it on."""
        self._recorder.resumed(record)

    def telemetry(self, name: str, values: Mapping[str, object]) -> None:
        """Pass it on."""
        self._recorder.telemetry(name, values)

    def finished(self, result: TrialResult) -> TrialResult:
        """Pass it on."""
        return self._recorder.finished(result)


def mirror_processes() -> list[psutil.Process]:
    """Return the mirror's process and W&B's service."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "perfbench.tracking.mirror" in process.cmdline() or "wandb-core" in process.name():
                found.append(process)
    return found


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def cpu_s(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds that processes have used."""
    total_s = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total_s += times.user + times.system
    return total_s


@contextmanager
def service_elsewhere(mode: str) -> Iterator[None]:
    """Serve from a process of its own, and let W&B use it."""
    context = multiprocessing.get_context("spawn")
    addresses: multiprocessing.Queue[dict[str, str]] = context.Queue()
    process = context.Process(target=_serve, args=(mode, addresses), daemon=True)
    process.start()
    os.environ.update(addresses.get())
    try:
        yield
    finally:
        process.terminate()


def _serve(mode: str, addresses: multiprocessing.Queue[dict[str, str]]) -> None:
    with serving(mode) as service:
        addresses.put(service.environment())
        signal.pause()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("accept", "hang", "error", "reset"), default="accept")
    parser.add_argument("--workload", default="criteo")
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    trial = planned(arguments)
    ensure_data(trial.workload, Path(trial.data_root), lambda *_: None, may_prepare=True)
    with tempfile.TemporaryDirectory() as runs, service_elsewhere(arguments.mode):
        folder = TrialFolder.of(Path(runs), trial)
        folder.claim(trial)
        folder.append_telemetry("started", {"attempt": 1})
        recorder = Alternating(folder)
        warnings: list[str] = []
        with mirrored(folder, WandbTracking(kind="wandb"), warnings.append):
            run_refereed(trial, folder, recorder)
            signal_all(mirror_processes(), signal.SIGCONT)
    report(recorder.blocks, arguments.mode, arguments.steps, len(warnings))
    print(f"the mirror's processes used {recorder.cpu_share:.2%} of one core")


def report(blocks: list[tuple[bool, float]], mode: str, num_steps: int, num_warnings: int) -> None:
    """Print the ratio: every block with the mirror against the mean of its two neighbours without."""
    kept = blocks[NUM_DISCARDED:]
    ratios = [
        with_s / ((before_s + after_s) / 2)
        for (_, before_s), (is_running, with_s), (_, after_s) in zip(kept, kept[1:], kept[2:], strict=False)
        if is_running
    ]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    without_ms = 1e3 * statistics.median(seconds for is_running, seconds in kept if not is_running) / num_steps
    print(f"service: {mode}; {len(ratios)} blocks of {num_steps} steps, {without_ms:.3f} ms per step without a mirror")
    print(f"time ratio with / without: median {statistics.median(ratios):.4f}, {spread}; {num_warnings} warning(s)")


if __name__ == "__main__":
    main()
