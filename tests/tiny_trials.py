"""Trials of one linear layer in this process: referee and trainer with all that belongs to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from perfbench.api import Batch, GradientSubmission, StepReport, TrainingContext
from perfbench.engine.wire.team import Solo
from perfbench.launch.debug import BothSides
from perfbench.launch.refereeing import Office, recorder_for
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from tests.tiny_workload import TinyWorkload
from tests.trial_folders import trial_spec

Build = Callable[[TrainingContext], GradientSubmission]


class Descent(GradientSubmission):
    """Plain gradient descent, with a rate that tests choose."""

    def __init__(self, context: TrainingContext, lr: float = 0.1) -> None:
        super().__init__(context, [torch.optim.SGD(context.model.parameters(), lr=lr)])


class StopAt:
    """A request to stop that comes during a step, and is sure to be heard before the next one."""

    def __init__(self, step: int) -> None:
        self.step = step
        self._is_requested = False
        self._num_answers = 0

    def __call__(self) -> bool:
        """Answer the referee, which asks many times a second."""
        self._num_answers += self._is_requested
        return self._is_requested

    def wait_until_heard(self) -> None:
        """Make the request and wait until the referee has acted on its answer."""
        self._is_requested = True
        while self._num_answers < 2:
            time.sleep(0.001)


def stopping(build: Build, stop: StopAt) -> Build:
    """Return a submission like another one, during whose step the request comes."""

    def built(context: TrainingContext) -> GradientSubmission:
        submission = build(context)
        update = submission.update_params

        def update_params(batch: Batch) -> StepReport:
            if submission.num_updates == stop.step - 1:
                stop.wait_until_heard()
            return update(batch)

        submission.update_params = update_params  # type: ignore[method-assign]
        return submission

    return built


def run(
    tmp_path: Path,
    build: Build = Descent,
    *,
    every_steps: int | None = 5,
    stop: StopAt | None = None,
    attempt: int = 1,
    eval_period_s: float = 1.0,
    **changes: Any,
) -> tuple[TrialResult | None, TrialFolder]:
    schedule = {"kind": "wall_clock"} if every_steps is None else {"kind": "every_steps", "every_steps": every_steps}
    trial = trial_spec({"evaluation": schedule, "max_steps": 40} | changes)
    workload = trial.workload.model_copy(update={"eval_period_s": eval_period_s})
    trial = trial.model_copy(update={"workload": workload})
    folder = TrialFolder.of(tmp_path, trial)
    folder.claim(trial)
    if folder.num_attempts() < attempt:
        folder.append_telemetry("started", {"attempt": attempt})
    office = Office(
        trial=trial,
        workload=TinyWorkload(trial.workload),
        folder=folder,
        recorder=recorder_for(folder, Solo()),
        team=Solo(),
        device=torch.device("cpu"),
    )
    build = build if stop is None else stopping(build, stop)
    both = BothSides(office, lambda: build)
    return both.run(attempt=attempt, stop_requested=stop or (lambda: False)), folder
