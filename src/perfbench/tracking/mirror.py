"""The mirror: a process beside a trial that follows its records and shows them elsewhere.

It reads, the trial writes, and neither waits for the other. Its memory does not grow with the trial: it reads blocks of
lines and hands rows on. It ends when its standard input does: at the trial's end, or when whoever started it is gone.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter

from perfbench.results.locks import held
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.spec.run import NoTracking, TensorboardTracking, TrackingSpec, WandbTracking
from perfbench.tracking.follow import GrowingFile
from perfbench.tracking.rows import Row, RowMaker

WARNING_PREFIX = "warning: "
_PERIOD_S = 1.0
_PATIENCE_S = 20.0
"""For the service to answer when a run begins."""
_END_PATIENCE_S = 30.0
"""After its trial's end the mirror ends itself, should nobody be left to end it."""
_SECRET_VARIABLES = ("WANDB_API_KEY",)


class Destination(Protocol):
    """Where rows go."""

    next_number: int
    """Of the first row that it does not hold."""

    def log(self, row: Row) -> None:
        """Hand a row over."""
        ...

    def finish(self, result: TrialResult | None, /) -> None:
        """Say that there are no more, for now (``None``) or at all."""
        ...


def open_destination(
    folder: TrialFolder, tracking: TrackingSpec, *, scratch: Path, patience_s: float = _PATIENCE_S
) -> Destination:
    """Return what a tracking configuration names."""
    match tracking:
        case WandbTracking():
            from perfbench.tracking.wandb_run import WandbRun

            return WandbRun(folder, tracking, scratch=scratch, patience_s=patience_s)
        case TensorboardTracking():
            from perfbench.tracking.tensorboard_files import TensorboardFiles

            return TensorboardFiles(folder)
        case NoTracking():
            raise AssertionError("nothing to open")


def mirror(folder: TrialFolder, destination: Destination, ended: threading.Event, *, holds_back: bool = False) -> int:
    """Hand over every row that the destination does not hold, until the trial has ended; return how many.

    Args:
        folder: Of the trial.
        destination: Where to.
        ended: Set when no more records come.
        holds_back: Whether more may come all the same: then the place of the last evaluation is not known yet.
    """
    maker = RowMaker(folder.trial())
    telemetry = GrowingFile(folder.path / "telemetry.jsonl", from_start=True)
    records = GrowingFile(folder.path / "measurements.jsonl", from_start=True)
    num_sent = 0

    def send(rows: Iterator[Row]) -> None:
        nonlocal num_sent
        for row in rows:
            if row.number >= destination.next_number:
                destination.log(row)
                num_sent += 1

    while True:
        is_last_look = ended.is_set()
        lines = telemetry.new_lines()
        send(maker.take(lines, list(records.all_new_lines())))  # the records after the telemetry: see RowMaker
        if not lines:
            if is_last_look:
                break
            ended.wait(_PERIOD_S)
    if not holds_back:
        send(maker.rest())
    destination.finish(folder.result())
    return num_sent


@contextmanager
def only_mirror(folder: TrialFolder) -> Iterator[None]:
    """Hold the trial's mirror: two at once would both send what neither has sent.

    Raises:
        LaunchError: If another process mirrors this trial now.
    """
    with held(folder.path / ".mirror.lock", busy="another process mirrors this trial now"):
        yield


def reason_of(problem: BaseException) -> str:
    """Return the first line of what went wrong, without any secret of the environment."""
    text = next(iter(str(problem).strip().splitlines()), "") or type(problem).__name__
    for name in _SECRET_VARIABLES:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return text


def main() -> int:
    """Mirror the trial that the command line names until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tracking", required=True, help="the tracking configuration as JSON")
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--niceness", type=int, required=True, help="how far it stands back: 0 not at all, 19 most")
    arguments = parser.parse_args()
    os.nice(arguments.niceness)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: ended.set())
    # Whoever started this removes it too, if still there. What is registered first runs last, after W&B's own end.
    atexit.register(shutil.rmtree, arguments.scratch, ignore_errors=True)
    threading.Thread(target=_wait_for_end, args=(ended, arguments.scratch), daemon=True).start()
    folder = TrialFolder(arguments.folder)
    tracking: TrackingSpec = TypeAdapter(TrackingSpec).validate_json(arguments.tracking)
    try:
        with only_mirror(folder):
            destination = open_destination(folder, tracking, scratch=arguments.scratch)
            mirror(folder, destination, ended)
    except BaseException as problem:  # noqa: BLE001 - whatever it is: the trial goes on, and a person is told once
        print(f"{WARNING_PREFIX}{failure_text(folder, reason_of(problem))}", flush=True)  # noqa: T201 - the mirror's log
        sys.stdout.flush()
        _leave(arguments.scratch)  # W&B's own end may wait for the service that has just failed
    return 0


def failure_text(folder: TrialFolder, reason: str) -> str:
    """Return what a person is told when mirroring has failed."""
    return f"not everything was mirrored ({reason}); the records are whole, `perfbench sync {folder.path}` sends them"


def _wait_for_end(ended: threading.Event, scratch: Path) -> None:
    sys.stdin.buffer.read()
    ended.set()
    guard = threading.Timer(_END_PATIENCE_S, _leave, [scratch])
    guard.daemon = True
    guard.start()


def _leave(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
