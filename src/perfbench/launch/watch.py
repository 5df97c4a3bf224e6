"""A watch over every rank: one that makes no progress dumps its stacks, and whoever launched it ends the trial."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from perfbench.engine.trial import TrialLoop
from perfbench.errors import ExitCode
from perfbench.launch.stacks import WATCH_PERIOD_S, stacks_file
from perfbench.results.store import TrialFolder


def _never() -> bool:
    return False


class Watch:
    """Dumps the stacks of a rank that makes no progress, and ends one that has been superseded.

    The dump is made by a timer in C: it works while Python itself is stuck. The launcher sees the file and ends the
    trial.

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
        self._stacks: Path = stacks_file(folder, attempt=attempt, rank=rank)
        self._timeout_s = timeout_s
        self._is_superseded = is_superseded

    @contextmanager
    def over(self, loop: TrialLoop) -> Iterator[None]:
        """Watch while the block runs."""
        ended = threading.Event()
        with self._stacks.open("w") as file:
            thread = threading.Thread(target=self._watch, args=(loop, ended, file.fileno()), daemon=True, name="watch")
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()
                faulthandler.cancel_dump_traceback_later()
        if not self._stacks.stat().st_size:
            self._stacks.unlink()

    def _watch(self, loop: TrialLoop, ended: threading.Event, descriptor: int) -> None:
        seen: object = None
        while True:
            if (progress := loop.progress()) != seen:
                seen = progress
                faulthandler.dump_traceback_later(self._timeout_s, file=descriptor)
            if self._is_superseded():
                os._exit(int(ExitCode.RUN_FAILED))  # whatever this rank still did would be written by two attempts
            if ended.wait(min(WATCH_PERIOD_S, self._timeout_s / 4)):
                return
