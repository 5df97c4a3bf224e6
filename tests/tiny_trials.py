"""Trials of one linear layer in this process: the loop with all that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.engine.checkpoint import Checkpoints
from perfbench.engine.recorder import FolderRecorder
from perfbench.engine.team import Solo
from perfbench.engine.trial import TrialLoop
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from tests.tiny_workload import TinyWorkload
from tests.trial_folders import trial_spec

Build = Callable[[TrainingContext], GradientSubmission]


class Descent(GradientSubmission):
    """Plain gradient descent, with a rate that tests choose."""

    def __init__(self, context: TrainingContext, lr: float = 0.1) -> None:
        super().__init__(context, [torch.optim.SGD(context.model.parameters(), lr=lr)])


def run(
    tmp_path: Path,
    build: Build = Descent,
    *,
    every_steps: int | None = 5,
    stop: Callable[[], bool] = lambda: False,
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
    loop = TrialLoop(
        trial,
        TinyWorkload(trial.workload),
        build,
        team=Solo(),
        device=torch.device("cpu"),
        recorder=FolderRecorder(folder),
        checkpoints=Checkpoints(folder.checkpoints, trial_identity=trial.identity(), team=Solo()),
    )
    return loop.run(attempt=attempt, stop_requested=stop), folder
