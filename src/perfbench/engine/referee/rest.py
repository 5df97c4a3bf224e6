"""Rest: between segments a trainer and everything it started do nothing. What they do all the same is measured.

The whole tree of processes is stopped by signal while the referee evaluates, so that nothing can run; before that,
while the trainer reads its losses and writes its weights, its processor time is counted, and what exceeds an allowance
is charged to the clock. A child that leaves its parents becomes the referee's own (a "subreaper" is what the kernel
calls that), so it stays known.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from perfbench.engine.referee.device_time import DeviceTime

_PR_SET_CHILD_SUBREAPER = 36
ALLOWANCE_S = {"cpu": 0.05, "cuda": 0.15}
"""Processor time for reading losses, collecting garbage and refilling what loads ahead, in every rest; on a device the
first reading loads kernels too (0.1 s seen)."""
ALLOWED_BYTES_PER_S = 250e6
"""Processor time for writing weights and states, by their size."""
_LOOK_S = 0.002
_SETTLE_S = 0.5
_CLOCK_OF_A_PROCESS = 0b010
"""The lowest bits of the number of a clock that counts a process's time on processors; the others are those of its
number, inverted (clock_getcpuclockid of the C library makes them so)."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class TrainerTree:
    """The trainer's process and all its descendants, wherever they hide: what is in another session than the referee.

    Args:
        device_time: Measures what they use of the device.
        device: Its kind.
    """

    def __init__(self, device_time: DeviceTime, device: str = "cpu") -> None:
        self._allowance_s = self._allowed_s = ALLOWANCE_S.get(device, max(ALLOWANCE_S.values()))
        self._own_pid = os.getpid()
        self._session = os.getsid(0)
        self._device_time = device_time
        self._before_s = self._until_s = self._processor_s()
        self._working_since_s: float | None = None
        self._charged_s = self._working_s = self._scored_s = 0.0

    def begin_rest(self) -> None:
        """Note what has been used so far: from here on everything is rest."""
        self._before_s = self._processor_s()
        if self._working_since_s is not None:
            self._working_s += self._before_s - self._until_s
            self._scored_s += time.monotonic() - self._working_since_s
        self._charged_s, self._allowed_s = 0.0, self._allowance_s
        self._device_time.begin()

    def charge(self, num_bytes: int) -> float:
        """Return what has to be charged for this rest and was not yet.

        Args:
            num_bytes: How much the trainer had to move since this was asked last: the allowance grows with it.
        """
        self._allowed_s += num_bytes / ALLOWED_BYTES_PER_S
        self._until_s, self._working_since_s = self._processor_s(), time.monotonic()
        used_s = self._until_s - self._before_s
        used_s += self._device_time.used_s(set(self._members()))
        beyond_s = max(0.0, used_s - self._allowed_s)
        charged_s, self._charged_s = self._charged_s, max(self._charged_s, beyond_s)
        return self._charged_s - charged_s

    def num_processors(self) -> float:
        """Return how many processors were busy on average from where a rest was over, and charged, to the next one."""
        return self._working_s / self._scored_s if self._scored_s else 0.0

    def suspend(self) -> None:
        """Stop every process of the tree; new ones that appear meanwhile too."""
        self._reach_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let every process of the tree go on."""
        for pid in self._members():
            _signal(pid, signal.SIGCONT)

    def kill(self) -> None:
        """End every process of the tree, stopped first: who is stopped starts no other."""
        self.suspend()
        self._reach_all(signal.SIGKILL)

    def _reach_all(self, number: signal.Signals) -> None:
        """Send a signal to every process of the tree, and go on until there is none that did not get it."""
        deadline_s = time.monotonic() + _SETTLE_S
        reached: set[int] = set()
        while time.monotonic() < deadline_s:
            missed = [pid for pid in self._members() if pid not in reached]
            if not missed:
                return
            for pid in missed:
                _signal(pid, number)
            reached.update(missed)
            time.sleep(_LOOK_S)

    def _members(self) -> Iterator[int]:
        waiting = _children(self._own_pid)
        while waiting:
            pid = waiting.pop()
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) != self._session:
                    yield pid
                waiting += _children(pid)

    def _processor_s(self) -> float:
        """Return the processor seconds of the tree, of processes that have ended and were waited for too."""
        return sum(_processor_s(pid) for pid in self._members())


class NoTree:
    """Nobody to watch: referee and trainer are one process, which is for debugging and never scored."""

    def begin_rest(self) -> None:
        """Do nothing."""

    def charge(self, num_bytes: int) -> float:
        """Return nothing."""
        return 0.0 * num_bytes

    def num_processors(self) -> float:
        """Return nothing."""
        return 0.0

    def suspend(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def kill(self) -> None:
        """Do nothing."""


Tree = TrainerTree | NoTree


def _children(pid: int) -> list[int]:
    """Return the children of a process, whichever of its threads started them; none if it has ended."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.scandir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(thread.path, "children").read_text().split())
    return found


def _processor_s(pid: int) -> float:
    """Return what a process and the children that it has waited for have used; 0 if it has ended and was waited for.

    Its own by its clock, to the nanosecond: in ticks, many processes that live for less than one have used nothing.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        own_s = time.clock_gettime(~pid << 3 | _CLOCK_OF_A_PROCESS)
    except OSError:
        return 0.0
    return own_s + sum(map(int, text.rpartition(")")[2].split()[13:15])) / _TICKS_PER_S  # cutime, cstime


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
