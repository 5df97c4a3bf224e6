"""Putting a rank's referee together, and running the trial with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from perfbench.api.workload import Workload
from perfbench.engine.referee.checkpoints import Checkpoints
from perfbench.engine.referee.device_time import DeviceTime
from perfbench.engine.referee.evaluation import Evaluator
from perfbench.engine.referee.link import Link, TrainerEnded, TrainerFailed
from perfbench.engine.referee.probe import probe_environment, process_age_s
from perfbench.engine.referee.recorder import FolderRecorder, Recorder, SilentRecorder
from perfbench.engine.referee.resources import Resources
from perfbench.engine.referee.rest import TrainerTree, adopt_orphans
from perfbench.engine.referee.trainer_process import TrainerProcess
from perfbench.engine.referee.trial import Referee
from perfbench.engine.wire.determinism import require_determinism
from perfbench.engine.wire.devices import device_of
from perfbench.engine.wire.groups import join_group
from perfbench.engine.wire.messages import Setup
from perfbench.engine.wire.precision import precision_now, set_precision
from perfbench.engine.wire.team import Solo, Team
from perfbench.launch.watch import Watch
from perfbench.registry import build_workload, workload_folder
from perfbench.results.store import TrialFolder
from perfbench.spec.environment import Isolation
from perfbench.spec.result import FailureReason, TrialResult
from perfbench.spec.run import TrialSpec
from perfbench.spec.submission import SubmissionSpec

_STATE_BYTES_PER_PARAMETER = 64.0
"""Of a submission that declares none."""
_STATE_BYTES_BESIDES = 2**20
"""Generators, names, the position in the data."""


def run_refereed(
    trial: TrialSpec,
    folder: TrialFolder,
    setup: Setup,
    trainer: TrainerProcess,
    *,
    watch: Watch,
    stop_requested: Callable[[], bool],
) -> TrialResult | None:
    """Run the trial of a trainer that was started; return ``None`` if it was stopped on request.

    Args:
        trial: As it is on record: its identity stands in results and checkpoints.
        folder: Of the trial.
        setup: What the trainer was told; the submission's code is where this says.
        trainer: Started.
        watch: Watches over this rank.
        stop_requested: Asked many times a second.

    Raises:
        TrainerFailed: If the trainer tells of an error.
        TrainerEnded: If the trainer is gone.
    """
    adopt_orphans()
    place = setup.place
    device = device_of(trial, place)
    set_precision(trial.ruleset.precision)
    if trial.deterministic:
        require_determinism()
    team: Team = Solo()
    if place.num_ranks > 1:
        team = join_group("referees", place, device, backend="gloo", timeout=timedelta(seconds=setup.timeout_s))
    resources = Resources(device, trainer.process.pid)
    tree = TrainerTree(DeviceTime(resources.handle), device.type)
    link = Link(trainer.channel, trainer.page, tree, trainer.describe_end)
    referee: Referee | None = None
    try:
        workload = build_workload(trial.workload, Path(trial.data_root))
        recorder = recorder_for(folder, team)
        office = Office(trial=trial, workload=workload, folder=folder, recorder=recorder, team=team, device=device)
        office.write_environment(watch.attempt, isolation=trial.isolation, submission=setup.trial.submission)
        start_up_s = process_age_s()
        referee = office.referee(link, trainer.weights_descriptor, resources)
        referee.count_start_up(start_up_s)
        watch.progress = referee.progress
        result = referee.run(attempt=watch.attempt, stop_requested=stop_requested)
    except (TrainerFailed, TrainerEnded) as problem:
        if referee is not None and referee.has_begun():
            facts = {"attempt": watch.attempt, "rank": place.rank, "num_ranks": place.num_ranks}
            facts["is_echo"] = _is_an_echo(problem, place.num_ranks)
            folder.append_telemetry("trainer_ended", facts, durable=True)
        raise
    finally:
        tree.kill()
    if dist.is_initialized():
        team.barrier()  # gloo aborts a rank whose peers are gone when it leaves
        dist.destroy_process_group()
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Office:
    """What a rank's referee works with; whether its trainer is a process or a thread makes no difference here."""

    trial: TrialSpec
    workload: Workload
    folder: TrialFolder
    recorder: Recorder
    team: Team
    device: torch.device

    def write_environment(self, attempt: int, *, isolation: Isolation, submission: SubmissionSpec) -> None:
        """Record what this attempt runs on, and which code of the submission; rank 0 does."""
        if self.team.shard.rank == 0:
            environment = probe_environment(
                attempt=attempt,
                num_ranks=self.team.shard.num_ranks,
                backend=self.team.backend,
                workload_folder=workload_folder(self.trial.workload.family),
                submission=submission,
            )
            facts = {"isolation": isolation, "precision": precision_now(self.trial.ruleset.precision, self.device)}
            self.folder.write_environment(environment.model_copy(update=facts))

    def referee(self, link: Link, weights_descriptor: int, resources: Resources) -> Referee:
        """Build the referee: its own model and evaluation, records and checkpoints."""
        evaluator = Evaluator(
            self.workload,
            weights_descriptor,
            splits=self.trial.ruleset.evaluated_splits,
            precision=self.trial.ruleset.precision,
            trial_seed=self.trial.trial_seed,
            team=self.team,
            device=self.device,
        )
        checkpoints = Checkpoints(
            self.folder.checkpoints,
            self.folder.states,
            trial_identity=self.trial.identity(),
            team=self.team,
            most_bytes=_most_state_bytes(self.trial, evaluator),
        )
        return Referee(
            self.trial,
            link,
            evaluator,
            team=self.team,
            recorder=self.recorder,
            checkpoints=checkpoints,
            resources=resources,
        )


def _most_state_bytes(trial: TrialSpec, evaluator: Evaluator) -> int:
    """Return how much a rank's state may hold: weights, what the submission declares, and a little besides."""
    by_parameter = trial.submission.state_bytes_per_parameter or _STATE_BYTES_PER_PARAMETER
    num_parameters = sum(parameter.numel() for parameter in evaluator.model.parameters())
    return evaluator.weights.num_bytes + round(by_parameter * num_parameters) + _STATE_BYTES_BESIDES


def recorder_for(folder: TrialFolder, team: Team) -> Recorder:
    """Return where a rank's referee records: rank 0 in the folder, the others nowhere."""
    return FolderRecorder(folder) if team.shard.rank == 0 else SilentRecorder()


def _is_an_echo(problem: TrainerFailed | TrainerEnded, num_ranks: int) -> bool:
    """Tell whether a failure may be that of another rank, to which the connection was lost."""
    return num_ranks > 1 and isinstance(problem, TrainerFailed) and problem.failed.reason is FailureReason.NODE
