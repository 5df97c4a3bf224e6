"""What a world does to a trial: processes that are killed or stopped at any moment, and a disk that is full."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

_DISK_MB = 48
_STOPPED_S = 3.0
_FULL_S = 4.0


def start(place: Path, num_ranks: int, arguments: argparse.Namespace) -> Disturbed:
    """Start the trial of a place, or go on with it: the same command each time."""
    steps = arguments.steps
    every = steps // 12
    traced = ",".join(str(step) for step in range(every, steps + 1, every))
    command = [
        *(sys.executable, "-m", "perfbench", "run", "workload=mnist", "submission=adamw", "trial=1", "--quiet"),
        *(f"runs_root={place}", f"data_root={arguments.data_root.resolve()}", f"cluster.nproc_per_node={num_ranks}"),
        *("evaluation=every_steps", f"evaluation.every_steps={every}", f"trace_steps=[{traced}]"),
        *(f"workload.step_hint={steps}", "ruleset.step_cap_factor=1.0", "workload.targets.smoke.threshold=2.0"),
        *("scale.checkpoint_period_s=0.05", "workload.max_submission_time_s=100000.0", "cluster.max_attempts=1000"),
    ]
    return Disturbed(command)


class Disturbed:
    """A launcher and all that comes from it."""

    def __init__(self, command: list[str]) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
        self._launcher = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._seen: set[psutil.Process] = set()
        self._said = ""

    def is_running(self) -> bool:
        """Tell whether the launcher runs."""
        return self._launcher.poll() is None

    def wait_at_most(self, seconds: float) -> None:
        """Wait, and note every process that comes from the launcher."""
        deadline_s = time.monotonic() + seconds
        while self.is_running() and time.monotonic() < deadline_s:
            self.tree()
            time.sleep(0.02)

    def tree(self) -> list[psutil.Process]:
        """Return the processes that come from the launcher now, the launcher last."""
        try:
            launcher = psutil.Process(self._launcher.pid)
            found = [*launcher.children(recursive=True), launcher]
        except psutil.Error:
            return []
        self._seen.update(found)
        return found

    def of_kind(self, module: str) -> list[psutil.Process]:
        """Return the processes that run a module."""
        found = []
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                if module in process.cmdline():
                    found.append(process)
        return found

    def signal(self, number: signal.Signals, *, group: bool = False) -> bool:
        """Send a signal to the launcher, or to its whole group; tell whether it was there."""
        try:
            if group:
                os.killpg(self._launcher.pid, number)
            else:
                os.kill(self._launcher.pid, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self, *, timeout: float) -> int:
        """Wait for the launcher's end and return its exit code; one that does not end is killed, and that is said."""
        deadline_s = time.monotonic() + timeout
        while self.is_running() and time.monotonic() < deadline_s:
            self.tree()
            time.sleep(0.1)
        if self.is_running():
            self.signal(signal.SIGKILL, group=True)
            self._said += "Traceback (most recent call last): none, it hung"
        with contextlib.suppress(subprocess.TimeoutExpired):  # a child that outlives it holds the pipe
            self._said += self._launcher.communicate(timeout=5)[0] or ""
        return self._launcher.wait()

    def said(self) -> str:
        """Return what it printed."""
        return self._said

    def left_over(self, *, within_s: float) -> str:
        """Return the command lines of processes that still live after a time; nothing is left in the end."""
        _, alive = psutil.wait_procs([one for one in self._seen if one.is_running()], timeout=within_s)
        lines = []
        for process in alive:
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    lines.append(" ".join(process.cmdline())[:120])
                    process.kill()
        return "; ".join(lines)


def _kill(process: Disturbed, module: str) -> bool:
    for victim in process.of_kind(module)[:1]:
        with contextlib.suppress(psutil.Error):
            victim.kill()
            return True
    return False


def _stop_and_go(process: Disturbed, _place: Path) -> bool:
    """As a suspended job: every process of it stops, and goes on later."""
    tree = process.tree()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for one in tree:
            with contextlib.suppress(psutil.Error):
                one.send_signal(number)
        if number is signal.SIGSTOP:
            time.sleep(_STOPPED_S)
    return True


def _fill_the_disk(_process: Disturbed, place: Path) -> bool:
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"x" * 65536)
            file.flush()
    time.sleep(_FULL_S)
    filler.unlink(missing_ok=True)
    return True


DISTURBANCES: Mapping[str, Callable[[Disturbed, Path], bool]] = {
    "SIGKILL of the launcher": lambda process, _: process.signal(signal.SIGKILL),
    "SIGKILL of a referee": lambda process, _: _kill(process, "perfbench.launch.worker"),
    "SIGKILL of a trainer": lambda process, _: _kill(process, "perfbench.engine.trainer"),
    "SIGKILL of the group": lambda process, _: process.signal(signal.SIGKILL, group=True),
    "SIGTERM of the launcher": lambda process, _: process.signal(signal.SIGTERM),
    "SIGHUP of the group": lambda process, _: process.signal(signal.SIGHUP, group=True),
    "SIGSTOP of all, SIGCONT": _stop_and_go,
    "full disk": _fill_the_disk,
}
"""Each tells whether it has met anything: there may be no trainer yet."""


def can_fill_a_disk() -> bool:
    """Tell whether this user may mount a small disk."""
    return os.geteuid() == 0


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Have a folder on a disk of its own, that can be filled without harm; yield whether it is one."""
    place.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(place)]
    is_small = can_fill_a_disk() and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield is_small
    finally:
        if is_small:
            subprocess.run(["umount", "-l", str(place)], check=False)
