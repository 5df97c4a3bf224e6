"""A trial in this very process, on one rank: breakpoints and profilers work. Never scored: nothing is isolated.

The trainer runs in the main thread, where a debugger expects it, the referee in another one, over the same wire.
"""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from perfbench.engine.referee.link import Link
from perfbench.engine.referee.resources import Resources
from perfbench.engine.referee.rest import NoTree
from perfbench.engine.trainer.loop import BuildSubmission, Trainer
from perfbench.engine.trainer.process import told
from perfbench.engine.trainer.workplace import Workplace
from perfbench.engine.wire.channel import Channel, LineBroken
from perfbench.engine.wire.devices import device_of
from perfbench.engine.wire.messages import TO_REFEREE, TO_TRAINER, Place, ToTrainer
from perfbench.engine.wire.page import Page, memory_file, page_file
from perfbench.engine.wire.team import Solo
from perfbench.engine.wire.weights import WeightsMemory
from perfbench.launch.attempt import Ended, bad_rank, why_no_result, with_next_attempt
from perfbench.launch.ending import STOPPED
from perfbench.launch.failure import describe_failure
from perfbench.launch.refereeing import Office, recorder_for
from perfbench.launch.worker import StopRequest
from perfbench.registry import build_workload, submission_builder
from perfbench.results.store import TrialFolder
from perfbench.spec.environment import Isolation
from perfbench.spec.result import TrialResult
from perfbench.spec.run import TrialSpec


def run_here(trial: TrialSpec, folder: TrialFolder) -> TrialResult:
    """Run or continue a trial in this process; a finished one is returned as it is.

    Raises:
        PerfbenchError: As :func:`perfbench.launch.local.run_trial`.
    """

    def run(attempt: int, _lock: int) -> TrialResult:
        stop = StopRequest()
        office = Office(
            trial=trial,
            workload=build_workload(trial.workload, Path(trial.data_root)),
            folder=folder,
            recorder=recorder_for(folder, Solo()),
            team=Solo(),
            device=device_of(trial, Place()),
        )
        office.write_environment(attempt, isolation=Isolation.NONE, submission=trial.submission)
        both = BothSides(office, lambda: submission_builder(trial.submission, trial.hyperparameters))
        code = 0
        try:
            both.run(attempt=attempt, stop_requested=stop)
        except BaseException as problem:  # noqa: BLE001 - whatever ends a rank is recorded
            failure = describe_failure(
                problem, rank=0, attempt=attempt, has_started=True, submission_folder=trial.submission.folder
            )
            folder.write_failure(failure)
            traceback.print_exception(problem)
            code = failure.exit_code
        if (result := folder.result()) is not None:
            return result
        code = code or STOPPED
        raise why_no_result(folder, attempt, Ended((code,), bad_rank((code,))), was_interrupted=stop())

    return with_next_attempt(trial, folder, run)


class BothSides:
    """Referee and trainer of a trial in one process.

    Args:
        office: What the referee works with; the trainer gets the same workload and team.
        import_submission: Imports the submission's code and returns what builds it.
    """

    def __init__(self, office: Office, import_submission: Callable[[], BuildSubmission]) -> None:
        self._office = office
        self._import_submission = import_submission
        self._result: TrialResult | None = None
        self._problem: BaseException | None = None

    def run(self, *, attempt: int, stop_requested: Callable[[], bool]) -> TrialResult | None:
        """Run to the end; return ``None`` if stopped on request.

        Raises:
            TrainerFailed: If the trainer fails, as if it were another process.
        """
        ours, theirs = socket.socketpair()
        page, weights = Page(page_file()), memory_file("weights")
        link = Link(Channel(ours, TO_REFEREE), page, NoTree())

        # Before there is another thread: both sides build a model from a seed, compiling saves and restores the random
        # state, and a process has one generator.
        referee = self._office.referee(link, weights, Resources(self._office.device))
        referee.warm_up()

        def judge() -> None:
            try:
                self._result = referee.run(attempt=attempt, stop_requested=stop_requested)
            except BaseException as problem:  # noqa: BLE001 - raised again in the thread that waits for it
                self._problem = problem
            finally:
                ours.close()

        thread = threading.Thread(target=judge, name="referee")
        thread.start()
        try:
            self._train(Channel(theirs, TO_TRAINER), page, weights)
        finally:
            theirs.close()
            thread.join()
        if self._problem is not None:
            raise self._problem
        return self._result

    def _train(self, channel: Channel[ToTrainer], page: Page, weights: int) -> None:
        office, trainer = self._office, None
        try:
            workplace = Workplace.build(
                office.trial, office.workload, source=office.workload, team=office.team, device=office.device
            )
            memory = WeightsMemory(weights, workplace.model)
            trainer = Trainer(workplace, self._import_submission, channel=channel, page=page, weights=memory)
            trainer.run()
        except LineBroken:
            return
        except BaseException as problem:  # noqa: BLE001 - told to the referee, which raises it
            channel.send(told(problem, office.trial, trainer))
