"""Who may write to a trial folder: only the attempt that came last.

A node that lost its Slurm daemon may still run ranks when the trial has been started elsewhere. Every attempt writes
its name into ``lease``; whoever finds another name there ends at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfbench.results.files import MOST_FACT_BYTES, read_regular_file, write_text_atomically
from perfbench.results.locks import held
from perfbench.results.store import LOCK_NAME

_WAIT_S = 120.0


class Lease:
    """An attempt's right to a trial folder.

    Args:
        folder: Of the trial.
        holder: Names the attempt among all: job and number of restarts.
    """

    def __init__(self, folder: Path, holder: str) -> None:
        self._path = folder / "lease"
        self.holder = holder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take the folder over, and wait until an earlier attempt that still runs has noticed.

        Raises:
            LaunchError: If it does not end.
        """
        write_text_atomically(self._path, self.holder)
        busy = f"an earlier attempt has not ended within {_WAIT_S:.0f} s"
        hint = "`perfbench resume RUNS_ROOT` submits the trial again"
        with held(self._path.parent / LOCK_NAME, busy=busy, hint=hint, patience_s=_WAIT_S):
            yield

    def is_lost(self) -> bool:
        """Tell whether a later attempt has taken over."""
        try:
            return read_regular_file(self._path, max_bytes=MOST_FACT_BYTES).decode() != self.holder
        except OSError:
            return False  # the disk is away for a moment: whoever cannot read it cannot write to it either
