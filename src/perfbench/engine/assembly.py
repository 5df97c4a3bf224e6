"""Putting a trial's parts together: model, compiled loss, submission, data, evaluator. Nothing runs yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from perfbench.api.submission import Submission, TrainingContext
from perfbench.api.workload import Workload
from perfbench.data.prefetch import DeviceBatches
from perfbench.engine.compiling import bind_loss, local_loss
from perfbench.engine.evaluate import Evaluator
from perfbench.engine.seeding import seed_generators
from perfbench.engine.team import Team
from perfbench.spec.result import Measurement
from perfbench.spec.run import TrialSpec
from perfbench.spec.seeds import Stream, stream_seed

BuildSubmission = Callable[[TrainingContext], Submission]


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembly:
    """The parts of a trial."""

    model: nn.Module
    submission: Submission
    batches: DeviceBatches
    evaluator: Evaluator


def assemble(
    trial: TrialSpec,
    workload: Workload,
    build_submission: BuildSubmission,
    *,
    team: Team,
    device: torch.device,
    measurements: Sequence[Measurement],
) -> Assembly:
    """Build everything from the trial's seed; the same on every rank but for data and dropout."""
    seed_generators(trial.trial_seed, rank=team.shard.rank)
    model = workload.build_model(seed=stream_seed(trial.trial_seed, Stream.INIT)).to(device)
    model.train()
    context = TrainingContext(
        model=model,
        loss=bind_loss(workload, model, team),
        local_loss=local_loss(workload, model),
        roles=workload.parameter_roles(model),
        loss_type=workload.loss_type,
        global_batch_size=trial.global_batch_size,
        step_hint=trial.workload.step_hint,
        max_steps=trial.max_steps,
        max_submission_time_s=trial.max_submission_time_s,
        eval_period_s=trial.workload.eval_period_s,
        target=trial.target,
        measurements=measurements,
        seed=stream_seed(trial.trial_seed, Stream.SUBMISSION),
        shard=team.shard,
        device=device,
        add_over_ranks=team.add,
        set_dropout=lambda rate: workload.set_dropout(model, rate),
        set_batch_norm=lambda mode: workload.set_batch_norm(model, mode),
    )
    stream = workload.train_batches(
        global_batch_size=trial.global_batch_size,
        seed=stream_seed(trial.trial_seed, Stream.DATA_ORDER),
        shard=team.shard,
    )
    evaluator = Evaluator(
        workload,
        model,
        splits=trial.ruleset.evaluated_splits,
        trial_seed=trial.trial_seed,
        team=team,
    )
    return Assembly(
        model=model,
        submission=build_submission(context),
        batches=DeviceBatches(stream, device),
        evaluator=evaluator,
    )
