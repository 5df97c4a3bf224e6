"""Who may write to a trial folder: only the attempt that came last.

A node that lost its Slurm daemon may still run ranks when the trial has been started elsewhere. Every attempt writes
its name into ``lease``; whoever finds another name there ends at once.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfbench.errors import LaunchError
from perfbench.results.files import write_text_atomically

_WAIT_S = 120.0


class Lease:
    """An attempt's right to a trial folder.

    Args:
        folder: Of the trial.
        holder: Names the attempt among all: job and number of restarts.
    """

    def __init__(self, folder: Path, holder: str) -> None:
        self._path = folder / "lease"
        self._lock = folder / ".lock"
        self.holder = holder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take the folder over, and wait until an earlier attempt that still runs has noticed.

        Raises:
            LaunchError: If it does not end.
        """
        write_text_atomically(self._path, self.holder)
        deadline_s = time.monotonic() + _WAIT_S
        with self._lock.open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline_s:
                        raise LaunchError(
                            f"an earlier attempt has not ended within {_WAIT_S:.0f} s",
                            where=str(self._path.parent),
                            hint="`perfbench resume RUNS_ROOT` submits the trial again",
                        ) from None
                    time.sleep(0.5)
            yield

    def is_lost(self) -> bool:
        """Tell whether a later attempt has taken over."""
        try:
            return self._path.read_text() != self.holder
        except OSError:
            return False  # the disk is away for a moment: whoever cannot read it cannot write to it either
