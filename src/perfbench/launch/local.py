"""Trials on this machine: one process per rank, watched until the end, all ended when one fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from perfbench.errors import ExitCode, PerfbenchError, TrialFailedError
from perfbench.launch.ending import KILLED, crash_result, failure_seen, first_cause
from perfbench.launch.stacks import STACKS_GRACE_S, any_stacks, hang_failure
from perfbench.registry import repository_root
from perfbench.results.store import Failure, TrialFolder
from perfbench.spec.result import FailureReason, TrialResult
from perfbench.spec.run import TrialSpec

_POLL_S = 0.1
_GRACE_S = 20.0
"""How long ranks may take to save and end after one was asked to."""

Watch = Callable[[], None]
"""Called several times a second while ranks run."""


def run_trial(trial: TrialSpec, folder: TrialFolder, watch: Watch, *, hang_timeout_s: float) -> TrialResult:
    """Run or continue a trial; a finished one is returned as it is.

    Raises:
        PerfbenchError: With exit code 2 if a rank found the request impossible before training began.
        TrialFailedError: If the trial crashed or was interrupted; its folder says why.
    """
    folder.claim(trial)
    with folder.locked():
        folder.reopen_after_crash()
        if (done := folder.result()) is not None:
            return done
        attempt = folder.num_attempts() + 1
        folder.append_telemetry("started", {"attempt": attempt})
        ranks = _start_ranks(trial, folder, attempt, hang_timeout_s=hang_timeout_s)
        with _interrupts_reach(ranks):
            exit_codes = _wait(ranks, watch, lambda: any_stacks(folder, attempt))
        if (result := folder.result()) is not None:
            return result
        raise _why(folder, attempt, exit_codes)


def _start_ranks(
    trial: TrialSpec, folder: TrialFolder, attempt: int, *, hang_timeout_s: float
) -> list[subprocess.Popen[bytes]]:
    rendezvous = (folder.path / f".rendezvous_{attempt}").resolve()
    rendezvous.unlink(missing_ok=True)
    threads = trial.scale.threads_per_rank or max(1, (os.cpu_count() or 1) // trial.num_ranks)
    ranks = []
    for rank in range(trial.num_ranks):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(trial.num_ranks),
            "LOCAL_WORLD_SIZE": str(trial.num_ranks),
            "PERFBENCH_RENDEZVOUS": f"file://{rendezvous}",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
        }
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # ranks of one machine need no other network
        command = [sys.executable, "-m", "perfbench.launch.worker", str(folder.path), "--attempt", str(attempt)]
        command += ["--hang-timeout-s", str(hang_timeout_s)]
        with _log(folder, rank) as log:
            ranks.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    cwd=repository_root(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
    return ranks


@contextmanager
def _log(folder: TrialFolder, rank: int) -> Iterator[IO[bytes]]:
    folder.logs.mkdir(exist_ok=True)
    with (folder.logs / f"rank_{rank}.log").open("ab") as log:
        yield log


@contextmanager
def _interrupts_reach(ranks: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Hand SIGTERM and SIGINT on to the ranks, which save and end; restore the handlers afterwards."""

    def hand_on(_number: int, _frame: object) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(signal.SIGTERM)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, hand_on) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _wait(ranks: list[subprocess.Popen[bytes]], watch: Watch, hangs: Callable[[], bool]) -> list[int]:
    """Wait for all ranks; once one has ended badly, or hangs, the others get a moment and are then killed."""
    deadline: float | None = None
    while any(rank.poll() is None for rank in ranks):
        watch()
        time.sleep(_POLL_S)
        failed = any(rank.returncode not in (None, 0) for rank in ranks)
        if failed and deadline is None:
            deadline = time.monotonic() + _GRACE_S
        if deadline is None and hangs():
            deadline = time.monotonic() + STACKS_GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            for rank in ranks:
                rank.kill()
    watch()
    return [rank.wait() for rank in ranks]


def _why(folder: TrialFolder, attempt: int, exit_codes: list[int]) -> PerfbenchError:
    """Return the error that explains why there is no result, and record a crash as such."""
    failures = folder.failures(attempt=attempt)
    refusals = [failure for failure in failures if failure.exit_code == ExitCode.IMPOSSIBLE_REQUEST]
    if refusals:
        return PerfbenchError(refusals[0].message)
    if not failures and all(code in (0, 1) for code in exit_codes):
        return TrialFailedError(
            "interrupted; everything up to the last step is saved",
            where=str(folder.path),
            hint="the same command continues it",
        )
    hung = hang_failure(folder, attempt) if any_stacks(folder, attempt) else None
    failure = hung or first_cause(failures) or _killed(exit_codes, attempt)
    folder.write_result(crash_result(folder, failure, attempt))
    log = folder.logs / f"rank_{failure.rank}.log"
    return TrialFailedError(
        f"the trial crashed on rank {failure.rank} ({failure.reason.value}): {failure.message.splitlines()[0]}",
        where=str(folder.path),
        hint=f"see {log}; the same command tries again from the last checkpoint",
    )


def _killed(exit_codes: list[int], attempt: int) -> Failure:
    rank, code = next((rank, code) for rank, code in enumerate(exit_codes) if code != 0)
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    message = KILLED if code == -signal.SIGKILL else f"ended by {name}"
    return failure_seen(attempt, FailureReason.NODE, message, rank=rank, error_type="Killed")


def trial_folder(runs_root: Path, trial: TrialSpec) -> TrialFolder:
    """Return the folder of a trial on this machine."""
    return TrialFolder.of(runs_root.resolve(), trial)
