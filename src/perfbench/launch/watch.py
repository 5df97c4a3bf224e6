"""A watch over every rank from its start: one that makes no progress leaves the stacks of both its processes.

Whoever launched the rank sees the file and ends the trial. Time in which this process could not run (a suspended job)
is no hang: the watch counts its own ticks and not the clock, and what is missing between two goes on record.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perfbench.errors import ExitCode
from perfbench.launch.stacks import WATCH_PERIOD_S, stacks_file, trainers_stacks_file
from perfbench.results.store import TrialFolder

_LATE = 5.0
"""A tick that comes so many periods late was kept from coming."""


def _never() -> bool:
    return False


def _starting() -> object:
    return "starting"


class Watch:
    """Dumps the stacks of a rank that makes no progress, and ends one that has been superseded.

    Args:
        folder: Of the trial.
        attempt: Of the trial.
        rank: This one.
        timeout_s: Without a step or a change of phase.
        is_superseded: Tells whether a later attempt has taken the trial over.
    """

    def __init__(
        self,
        folder: TrialFolder,
        *,
        attempt: int,
        rank: int,
        timeout_s: float,
        is_superseded: Callable[[], bool] = _never,
    ) -> None:
        self.attempt = attempt
        self.progress: Callable[[], object] = _starting
        """What changes as long as the rank does not hang; replaced when there is more to tell."""
        self.trainer_pid: int | None = None
        self.trainers_stacks_fd: int | None = None
        """Where the trainer writes its stacks when it is asked to; while the watch is on."""
        self._folder = folder
        self._stacks = stacks_file(folder, attempt=attempt, rank=rank)
        self._trainers_stacks = trainers_stacks_file(folder, attempt=attempt, rank=rank)
        self._timeout_s = timeout_s
        self._period_s = min(WATCH_PERIOD_S, timeout_s / 4)
        self._is_superseded = is_superseded

    def has_referee(self) -> bool:
        """Tell whether there is more to watch than a process that starts."""
        return self.progress is not _starting

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch while the block runs."""
        ended = threading.Event()
        with self._stacks.open("w") as own, self._trainers_stacks.open("w") as theirs:
            self.trainers_stacks_fd = theirs.fileno()
            thread = threading.Thread(target=self._watch, args=(ended, own.fileno()), daemon=True, name="watch")
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()
        for path in (self._stacks, self._trainers_stacks):
            if not path.stat().st_size:
                path.unlink()

    def _watch(self, ended: threading.Event, descriptor: int) -> None:
        seen: object = None
        idle_s, last_s = 0.0, time.monotonic()
        while not ended.wait(self._period_s):
            now_s = time.monotonic()
            if (missing_s := now_s - last_s - self._period_s) > _LATE * self._period_s:
                self._note_suspension(missing_s)
                idle_s = 0.0
            last_s = now_s
            progress = self.progress()
            idle_s = 0.0 if progress != seen else idle_s + self._period_s
            seen = progress
            if idle_s >= self._timeout_s:
                self._dump(descriptor)
                idle_s = 0.0
            if self._is_superseded():
                os._exit(int(ExitCode.RUN_FAILED))  # whatever this rank still did would be written by two attempts

    def _dump(self, descriptor: int) -> None:
        if self.trainer_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.trainer_pid, signal.SIGUSR1)
        faulthandler.dump_traceback(descriptor, all_threads=True)

    def _note_suspension(self, seconds: float) -> None:
        with contextlib.suppress(OSError):
            self._folder.append_telemetry("suspended", {"attempt": self.attempt, "seconds": round(seconds, 1)})
