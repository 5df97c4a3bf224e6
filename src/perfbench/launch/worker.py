"""One rank of one trial: reads ``run.json`` and runs it. What every launcher executes, here or on a cluster.

Environment: ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and ``PERFBENCH_RENDEZVOUS``. No Hydra is imported here.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from perfbench.engine.checkpoint import Checkpoints
from perfbench.engine.probe import probe_environment, process_age_s
from perfbench.engine.recorder import FolderRecorder, Recorder, SilentRecorder
from perfbench.engine.team import ProcessTeam, Solo, Team
from perfbench.engine.trial import TrialLoop
from perfbench.errors import ExitCode
from perfbench.launch.ending import STOPPED
from perfbench.launch.failure import describe_failure
from perfbench.launch.rendezvous import join
from perfbench.launch.watch import Watch
from perfbench.registry import build_workload, submission_builder, workload_folder
from perfbench.registry import submission_folder as folder_of_submission
from perfbench.results.store import TrialFolder
from perfbench.spec.run import TrialSpec

_PR_SET_PDEATHSIG = 1
_LATER = timedelta(minutes=1)
"""By so much collectives outlast the watch, which dumps stacks; nccl's own 10 minutes may be less than compiling."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where this rank is."""

    rank: int
    num_ranks: int
    local_rank: int
    num_local_ranks: int
    """On this node."""

    @classmethod
    def from_environment(cls) -> Place:
        """Read what the launcher set."""
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            num_ranks=int(os.environ.get("WORLD_SIZE", "1")),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            num_local_ranks=int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1"))),
        )


class StopRequest:
    """Set by SIGTERM, SIGINT and SIGUSR2: the handler only sets a flag, the loop saves and ends between steps."""

    def __init__(self) -> None:
        self._is_requested = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, self._request)

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self._is_requested

    def _request(self, _number: int, _frame: object) -> None:
        self._is_requested = True


def main() -> int:
    """Run the rank that the command line and the environment describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="trial folder with run.json")
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--hang-timeout-s", type=float, required=True)
    arguments = parser.parse_args()
    _end_with_parent()
    folder, attempt = TrialFolder(arguments.folder), arguments.attempt
    rank = Place.from_environment().rank
    watch = Watch(folder, attempt=attempt, rank=rank, timeout_s=arguments.hang_timeout_s)
    return run_rank(
        folder,
        attempt=attempt,
        stop_requested=StopRequest(),
        watched=watch.over,
        hang_timeout_s=arguments.hang_timeout_s,
    )


Watched = Callable[[TrialLoop], AbstractContextManager[None]]
"""Watches over a loop while it runs."""


def _unwatched(_loop: TrialLoop) -> AbstractContextManager[None]:
    return nullcontext()


def run_rank(
    folder: TrialFolder,
    *,
    attempt: int,
    stop_requested: StopRequest,
    watched: Watched = _unwatched,
    submission_folder: str | None = None,
    hang_timeout_s: float = 1800.0,
) -> int:
    """Run one rank to its end and return the exit code; a failure is recorded in the folder too.

    Args:
        folder: Of the trial.
        attempt: How often the trial was started, this time included.
        stop_requested: Asked between steps.
        watched: Watches over the loop.
        submission_folder: Where the submission's code is, if not where ``run.json`` says: a copy made earlier.
        hang_timeout_s: After which whatever watches over ranks takes them for hanging.
    """
    place = Place.from_environment()
    loop: TrialLoop | None = None
    try:
        trial = folder.trial()
        submission_folder = submission_folder or trial.submission.folder
        device = _device(trial, place)
        team = _team(place, device, timedelta(seconds=hang_timeout_s) + _LATER)
        loop = _prepared_loop(trial, folder, team, device, attempt, submission_folder)
        with watched(loop):
            result = loop.run(attempt=attempt, stop_requested=stop_requested)
    except BaseException as problem:  # noqa: BLE001 - whatever ends a rank is recorded, then told by the exit code
        failure = describe_failure(
            problem,
            rank=place.rank,
            attempt=attempt,
            has_started=loop is not None,
            submission_folder=submission_folder,
        )
        folder.write_failure(failure)
        print(failure.traceback, file=sys.stderr, flush=True)  # noqa: T201 - the rank's log
        return failure.exit_code
    if dist.is_initialized():
        team.barrier()  # gloo aborts a rank whose peers are gone when it leaves
        dist.destroy_process_group()
    return int(ExitCode.DONE) if result is not None else STOPPED


def _prepared_loop(
    trial: TrialSpec,
    folder: TrialFolder,
    team: Team,
    device: torch.device,
    attempt: int,
    submission_folder: str | None,
) -> TrialLoop:
    submission = trial.submission.model_copy(update={"folder": submission_folder or trial.submission.folder})
    build_submission = submission_builder(submission, trial.hyperparameters)
    workload = build_workload(trial.workload, Path(trial.data_root))
    is_first = team.shard.rank == 0
    if is_first:
        folder.write_environment(
            probe_environment(
                attempt=attempt,
                num_ranks=team.shard.num_ranks,
                backend=team.backend,
                workload_folder=workload_folder(trial.workload.family),
                submission_folder=folder_of_submission(submission),
            )
        )
    recorder: Recorder = FolderRecorder(folder) if is_first else SilentRecorder()
    checkpoints = Checkpoints(folder.checkpoints, trial_identity=trial.identity(), team=team)
    start_up_s = process_age_s()
    loop = TrialLoop(
        trial,
        workload,
        build_submission,
        team=team,
        device=device,
        recorder=recorder,
        checkpoints=checkpoints,
    )
    loop.count_start_up(start_up_s)
    return loop


def _device(trial: TrialSpec, place: Place) -> torch.device:
    threads = trial.scale.threads_per_rank or max(1, (os.cpu_count() or 1) // place.num_local_ranks)
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", place.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _team(place: Place, device: torch.device, timeout: timedelta) -> Team:
    if place.num_ranks == 1:
        return Solo()
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=join(rank=place.rank, num_ranks=place.num_ranks, timeout=timeout),
        rank=place.rank,
        world_size=place.num_ranks,
        timeout=timeout,
        device_id=device if device.type == "cuda" else None,
    )
    return ProcessTeam(timeout=timeout)


def _end_with_parent() -> None:
    """Ask the kernel to end this rank when its launcher dies, however that happens (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
