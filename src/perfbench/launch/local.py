"""Trials on this machine: one process per rank, watched until the end, all ended when one fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from perfbench.engine.wire.rendezvous import VARIABLE, opened
from perfbench.errors import TrialFailedError, TrialInterruptedError
from perfbench.inherited import for_ranks
from perfbench.launch.attempt import Ended, bad_rank, give_up_after, why_no_result, with_next_attempt
from perfbench.launch.ending import start_failed
from perfbench.launch.stacks import STACKS_GRACE_S, any_stacks
from perfbench.registry import repository_root
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.spec.run import LocalCluster, TrialSpec

_POLL_S = 0.1
_PAUSE_S = 1.0
_GRACE_S = 20.0
"""How long the other ranks may take to end after one has failed."""

Watch = Callable[[], None]
"""Called several times a second while ranks run."""


def run_trial(trial: TrialSpec, folder: TrialFolder, watch: Watch, cluster: LocalCluster) -> TrialResult:
    """Run or continue a trial; a finished one is returned as it is, a start that failed by chance is made once more.

    Raises:
        PerfbenchError: With exit code 2 if a rank found the request impossible before training began.
        TrialFailedError: If the trial crashed or was interrupted; its folder says why.
    """
    try:
        return _attempted(trial, folder, watch, cluster)
    except TrialInterruptedError:
        raise
    except TrialFailedError as problem:
        if not start_failed(folder):
            raise
        folder.append_telemetry("warning", {"text": f"it failed before it trained, and is tried again: {problem}"})
        time.sleep(_PAUSE_S)
        return _attempted(trial, folder, watch, cluster)


def _attempted(trial: TrialSpec, folder: TrialFolder, watch: Watch, cluster: LocalCluster) -> TrialResult:
    def run(attempt: int, lock: int) -> TrialResult:
        give_up_after(folder, attempt, cluster.max_attempts)
        with opened("127.0.0.1", is_local=True) as address:
            ranks = _Ranks(
                trial=trial, folder=folder, attempt=attempt, address=address, lock=lock, cluster=cluster
            ).start()
            with _interrupts_reach(ranks) as interrupted:
                ended = _wait(ranks, watch, lambda: any_stacks(folder, attempt))
        if (result := folder.result()) is not None:
            return result
        raise why_no_result(folder, attempt, ended, was_interrupted=interrupted.is_set())

    return with_next_attempt(trial, folder, run)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ranks:
    """How the ranks of an attempt are started."""

    trial: TrialSpec
    folder: TrialFolder
    attempt: int
    address: str
    """Where they find one another."""
    lock: int
    """The trial's lock: ranks hold it too, so that it lasts until the last of them has ended."""
    cluster: LocalCluster

    def start(self) -> list[subprocess.Popen[bytes]]:
        """Start them all."""
        return [self._started(rank) for rank in range(self.trial.num_ranks)]

    def _started(self, rank: int) -> subprocess.Popen[bytes]:
        num_ranks = self.trial.num_ranks
        threads = self.trial.scale.threads_per_rank or max(1, (os.cpu_count() or 1) // num_ranks)
        environment = for_ranks(os.environ, self.cluster.inherit) | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(num_ranks),
            "LOCAL_WORLD_SIZE": str(num_ranks),
            VARIABLE: self.address,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
        }
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # ranks of one machine need no other network
        command = [sys.executable, "-m", "perfbench.launch.worker", str(self.folder.path)]
        command += ["--attempt", str(self.attempt), "--parent", str(os.getpid())]
        command += ["--hang-timeout-s", str(self.cluster.hang_timeout_s)]
        with _log(self.folder, rank) as log:
            return subprocess.Popen(
                command,
                env=environment,
                cwd=repository_root(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self.lock,),
            )


@contextmanager
def _log(folder: TrialFolder, rank: int) -> Iterator[IO[bytes]]:
    folder.logs.mkdir(exist_ok=True)
    with (folder.logs / f"rank_{rank}.log").open("ab") as log:
        yield log


@contextmanager
def _interrupts_reach(ranks: list[subprocess.Popen[bytes]]) -> Iterator[threading.Event]:
    """Hand signals on to the ranks, which save and end; a second one kills them. Yield whether there was one."""
    interrupted = threading.Event()

    def hand_on(_number: int, _frame: object) -> None:
        number = signal.SIGKILL if interrupted.is_set() else signal.SIGTERM
        interrupted.set()
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.signal(number, hand_on) for number in numbers]
    try:
        yield interrupted
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _wait(ranks: list[subprocess.Popen[bytes]], watch: Watch, hangs: Callable[[], bool]) -> Ended:
    """Wait for all ranks; once one has ended badly, or hangs, the others get a moment and are then killed."""
    deadline: float | None = None
    first_bad: int | None = None
    while True:
        codes = [rank.poll() for rank in ranks]  # of all, in one look: the first rank may wait for another one for ever
        if first_bad is None:
            first_bad = bad_rank(codes)
        ended = [code for code in codes if code is not None]
        watch()
        if len(ended) == len(ranks):
            return Ended(tuple(ended), first_bad)
        time.sleep(_POLL_S)
        if first_bad is not None and deadline is None:
            deadline = time.monotonic() + _GRACE_S
        if deadline is None and hangs():
            deadline = time.monotonic() + STACKS_GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            for rank in ranks:
                rank.kill()
