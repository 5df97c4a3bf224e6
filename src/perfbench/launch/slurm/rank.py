"""One rank under ``srun``: names from Slurm's environment, a watch over hangs and over the lease, then the worker."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfbench.engine.trial import TrialLoop
from perfbench.errors import ExitCode
from perfbench.launch.slurm.lease import Lease
from perfbench.launch.worker import Place, StopRequest, run_rank
from perfbench.results.store import TrialFolder

_LEASE_PERIOD_S = 2.0


def stacks_file(folder: TrialFolder, *, attempt: int, rank: int) -> Path:
    """Return where a rank writes the stacks of all its threads when it hangs."""
    return folder.logs / f"stacks_attempt_{attempt}_rank_{rank}.txt"


class Watch:
    """Dumps the stacks of a rank that makes no progress, and ends one that has been superseded.

    The dump is made by a timer in C: it works while Python itself is stuck. The element sees the file and ends the
    trial.

    Args:
        stacks: Where to.
        lease: Of this attempt.
        timeout_s: Without a step or a change of phase.
    """

    def __init__(self, stacks: Path, lease: Lease, *, timeout_s: float) -> None:
        self._stacks = stacks
        self._lease = lease
        self._timeout_s = timeout_s

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
            if self._lease.is_lost():
                os._exit(int(ExitCode.RUN_FAILED))  # whatever this rank still did would be written by two attempts
            if ended.wait(min(_LEASE_PERIOD_S, self._timeout_s / 4)):
                return


def main() -> int:
    """Run the rank that Slurm's environment describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--holder", required=True, help="name of the attempt in the lease")
    parser.add_argument("--hang-timeout-s", type=float, required=True)
    parser.add_argument("--submission-folder")
    arguments = parser.parse_args()
    stop_requested = StopRequest()
    os.environ |= {
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": os.environ["SLURM_NTASKS"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
    }
    folder = TrialFolder(arguments.folder)
    rank = Place.from_environment().rank
    stacks = stacks_file(folder, attempt=arguments.attempt, rank=rank)
    watch = Watch(stacks, Lease(arguments.folder, arguments.holder), timeout_s=arguments.hang_timeout_s)
    code = run_rank(
        folder,
        attempt=arguments.attempt,
        stop_requested=stop_requested,
        watched=watch.over,
        submission_folder=arguments.submission_folder,
    )
    has_failed = any(failure.rank == rank for failure in folder.failures(attempt=arguments.attempt))
    if code and stop_requested() and not has_failed:
        return int(ExitCode.DONE)  # saved as asked: no reason for srun to kill the others
    return code


if __name__ == "__main__":
    sys.exit(main())
