"""One rank of one trial: starts its trainer, and is its referee. What every launcher executes, here or on a cluster.

Environment: ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and ``PERFBENCH_RENDEZVOUS``. Nothing heavy is imported before the
trainer is started and the watch is on: the two then import torch and compile side by side.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from perfbench.engine.referee.trainer_process import TrainerProcess, start_trainer
from perfbench.engine.wire.lifeline import end_at_once, end_with_parent
from perfbench.engine.wire.messages import Place, Setup
from perfbench.errors import ExitCode
from perfbench.launch.ending import STOPPED
from perfbench.launch.failure import describe_failure
from perfbench.launch.room import Room
from perfbench.launch.watch import Watch
from perfbench.results.store import TrialFolder
from perfbench.spec.run import TrialSpec

_LATER_S = 60.0
"""By so much collectives outlast the watch, which dumps stacks; nccl's own 10 minutes may be less than compiling."""


class StopRequest:
    """Set by SIGTERM, SIGINT, SIGHUP and SIGUSR2: the handler only sets a flag, the referee saves and ends."""

    def __init__(self) -> None:
        self._is_requested = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
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
    parser.add_argument("--parent", type=int, required=True, help="process that this one does not outlive")
    arguments = parser.parse_args()
    end_with_parent(arguments.parent)
    folder, attempt = TrialFolder(arguments.folder), arguments.attempt
    watch = Watch(folder, attempt=attempt, rank=Place.from_environment().rank, timeout_s=arguments.hang_timeout_s)
    code = run_rank(folder, watch, stop_requested=StopRequest(), hang_timeout_s=arguments.hang_timeout_s)
    if Place.from_environment().num_ranks == 1:  # where there are others, connections to them are closed in order
        end_at_once(code)
    return code


def run_rank(
    folder: TrialFolder,
    watch: Watch,
    *,
    stop_requested: StopRequest,
    submission_folder: str | None = None,
    hang_timeout_s: float = 1800.0,
) -> int:
    """Run one rank to its end and return the exit code; a failure is recorded in the folder too.

    Args:
        folder: Of the trial.
        watch: Watches over the rank, from now on.
        stop_requested: Asked many times a second.
        submission_folder: Where the submission's code is, if not where ``run.json`` says: a copy made earlier.
        hang_timeout_s: After which whatever watches over ranks takes them for hanging.
    """
    place = Place.from_environment()
    trainer: TrainerProcess | None = None
    room: Room | None = None
    with watch.on():
        try:
            trial = folder.trial()
            with_code = _with_code(trial, submission_folder)
            room = Room.of(with_code, folder, place)
            setup = Setup(
                trial=with_code,
                place=place,
                timeout_s=hang_timeout_s + _LATER_S,
                stacks_fd=watch.trainers_stacks_fd,
                sandbox=room.sandbox,
            )
            trainer = start_trainer(setup, environment=room.environment, folder=str(room.folder))
            watch.trainer_pid = trainer.process.pid
            from perfbench.launch.refereeing import run_refereed  # imports torch: the trainer does too, at this moment

            result = run_refereed(trial, folder, setup, trainer, watch=watch, stop_requested=stop_requested)
        except BaseException as problem:  # noqa: BLE001 - whatever ends a rank is recorded, then told by the exit code
            failure = describe_failure(
                problem,
                rank=place.rank,
                attempt=watch.attempt,
                has_started=watch.has_referee(),
                submission_folder=submission_folder,
            )
            folder.write_failure(failure)
            print(failure.traceback, file=sys.stderr, flush=True)  # noqa: T201 - the rank's log
            return failure.exit_code
        finally:
            if trainer is not None:
                trainer.end()
            if room is not None:
                room.clear()
    return int(ExitCode.DONE) if result is not None else STOPPED


def _with_code(trial: TrialSpec, submission_folder: str | None) -> TrialSpec:
    """Return the trial with the submission's code where it is now."""
    code = submission_folder or trial.submission.folder
    return trial.model_copy(update={"submission": trial.submission.model_copy(update={"folder": code})})


if __name__ == "__main__":
    sys.exit(main())
