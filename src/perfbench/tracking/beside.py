"""Starting the mirror beside a trial, and leaving it behind in time: nothing here waits while the trial runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from perfbench.inherited import for_mirror
from perfbench.registry import repository_root
from perfbench.results.store import TrialFolder
from perfbench.spec.run import NoTracking, TrackingSpec
from perfbench.tracking.follow import GrowingFile
from perfbench.tracking.mirror import WARNING_PREFIX, failure_text

END_PATIENCE_S = 4.0
"""How long a trial's end waits for its mirror; with killing it stays under 5 s."""
_DEATH_PATIENCE_S = 0.5
"""A killed process still needs the processor to die, and at the lowest priority it may wait long for it."""
_SHORT_PATIENCE_S = 2.0
LOWEST_PRIORITY = 19
"""A mirror takes what the trial leaves: nothing, on a full machine."""


class Mirror:
    """A mirror process.

    Args:
        folder: Of the trial.
        tracking: Where to.
        tell: Takes a warning, at most one.
    """

    def __init__(self, folder: TrialFolder, tracking: TrackingSpec, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._has_warned = self._is_closed = False
        self._scratch = tempfile.TemporaryDirectory(prefix="perfbench_mirror_", ignore_cleanup_errors=True)
        folder.logs.mkdir(parents=True, exist_ok=True)
        log = folder.logs / "mirror.log"
        self._log = GrowingFile(log)
        command = [sys.executable, "-m", "perfbench.tracking.mirror", str(folder.path)]
        command += ["--tracking", tracking.to_json(indent=None), "--scratch", self._scratch.name]
        command += ["--niceness", str(LOWEST_PRIORITY)]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=repository_root(),
                # Killed, it leaves what it has in its temporary folder: that is ours to remove.
                env=for_mirror(os.environ) | {"OMP_NUM_THREADS": "1", "TMPDIR": self._scratch.name},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C is for the trial: the mirror shows how that ends
            )

    def watch(self) -> None:
        """Pass a warning on, if the mirror has one; waits for nothing."""
        for line in self._log.new_lines():
            if line.startswith(WARNING_PREFIX):
                self._warn(line.removeprefix(WARNING_PREFIX))

    def close_soon(self) -> None:
        """Close before a job is requeued, which has little time: the next attempt's mirror sends what is left."""
        self.close(patience_s=_SHORT_PATIENCE_S)

    def close(self, *, patience_s: float = END_PATIENCE_S) -> None:
        """Tell the mirror that the trial has ended, and wait for it a little; then end it with all its processes."""
        if self._is_closed:
            return
        self._is_closed = True
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            _kill(self._process)
            self.watch()
            self._warn(failure_text(self._folder, f"no end {patience_s:g} s after the trial's"))
        self.watch()
        if self._process.returncode not in (0, None):
            self._warn(failure_text(self._folder, f"the mirror has failed, see {self._folder.logs / 'mirror.log'}"))
        self._scratch.cleanup()

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._tell(text)


class NoMirror:
    """What stands in for a mirror where there is none."""

    def watch(self) -> None:
        """Do nothing."""

    def close_soon(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def mirrored(folder: TrialFolder, tracking: TrackingSpec, tell: Callable[[str], None]) -> Iterator[Mirror | NoMirror]:
    """Mirror a trial while the block runs; that it cannot be started is a warning, and the trial runs without it."""
    mirror: Mirror | NoMirror = NoMirror()
    if not isinstance(tracking, NoTracking):
        try:
            mirror = Mirror(folder, tracking, tell)
        except OSError as problem:
            tell(failure_text(folder, f"the mirror cannot be started: {problem}"))
    try:
        yield mirror
    finally:
        mirror.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started, whose last code has run then; W&B's service is in a session of its own."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_DEATH_PATIENCE_S)
