"""What a trainer has before there is a submission: model, compiled loss, training data; and what it will be given."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from perfbench.api.submission import BoundLoss, TrainingContext
from perfbench.api.workload import BatchNormMode, Workload
from perfbench.data.modules import auxiliary_dropout_setter
from perfbench.data.prefetch import DeviceBatches
from perfbench.engine.trainer.compiling import bind_loss, local_loss
from perfbench.engine.wire.team import Team
from perfbench.spec.result import Measurement
from perfbench.spec.run import TrialSpec
from perfbench.spec.seeds import Stream, stream_seed
from perfbench.spec.submission import LossSetting

_NUM_WARM_UP_STEPS = 3
"""DistributedDataParallel arranges its buckets after the first backward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """The parts of a trial that a submission is given to work with."""

    trial: TrialSpec
    workload: Workload
    team: Team
    device: torch.device
    model: nn.Module
    loss: BoundLoss
    batches: DeviceBatches

    @classmethod
    def build(
        cls, trial: TrialSpec, workload: Workload, *, source: Workload, team: Team, device: torch.device
    ) -> Workplace:
        """Build everything from the trial's seed; the same on every rank but for the data.

        Args:
            trial: What is trained.
            workload: Of the model and its loss. A submission can get hold of it (a Python closure hides nothing), so
                it need not know where any data is.
            source: The same workload on its prepared data, of which the training stream is read.
            team: The ranks' trainers.
            device: This rank's.
        """
        model = workload.build_model(seed=stream_seed(trial.trial_seed, Stream.INIT)).to(device)
        model.train()
        stream = source.train_batches(
            global_batch_size=trial.global_batch_size,
            seed=stream_seed(trial.trial_seed, Stream.DATA_ORDER),
            shard=team.shard,
        )
        return cls(
            trial=trial,
            workload=workload,
            team=team,
            device=device,
            model=model,
            loss=bind_loss(workload, model, team, trial.ruleset.precision),
            batches=DeviceBatches(stream, device),
        )

    def warm_up(self, settings: Sequence[LossSetting]) -> None:
        """Compile forward and backward on an invented batch, once for each way the submission says it uses the loss.

        Nothing is left of it: no step is made, running statistics are put back, and generators are seeded afterwards.
        """
        batch_size = self.team.shard.size_of(self.trial.global_batch_size)
        invented = self.workload.synthetic_batch(
            batch_size=batch_size, seed=self.team.shard.rank, num_ranks=self.team.shard.num_ranks
        )
        batch = {name: tensor.to(self.device) for name, tensor in invented.items()}
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        rates = {module: module.p for module in self.model.modules() if hasattr(module, "p")}
        set_auxiliary_dropout = auxiliary_dropout_setter(self.model)
        for setting in settings:
            if setting.dropout_rate is not None:
                self.workload.set_dropout(self.model, setting.dropout_rate)
            if setting.auxiliary_dropout == "own":
                set_auxiliary_dropout(None)
            label_smoothing = setting.label_smoothing or 0.0
            self.workload.set_batch_norm(self.model, BatchNormMode(setting.batch_norm))
            for _ in range(_NUM_WARM_UP_STEPS):
                sums = self.loss(batch, label_smoothing=label_smoothing)
                (sums.summed / sums.num_valid).backward()
                self.model.zero_grad(set_to_none=True)
            for module, rate in rates.items():
                module.p = rate
        self.workload.set_batch_norm(self.model, BatchNormMode.UPDATE)
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])

    def context(self, measurements: Sequence[Measurement]) -> TrainingContext:
        """Return what a submission may know and use."""
        trial, workload, model = self.trial, self.workload, self.model
        return TrainingContext(
            model=model,
            loss=self.loss,
            local_loss=local_loss(workload, model, trial.ruleset.precision),
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
            shard=self.team.shard,
            device=self.device,
            add_over_ranks=self.team.add,
            set_dropout=lambda rate: workload.set_dropout(model, rate),
            set_batch_norm=lambda mode: workload.set_batch_norm(model, mode),
            num_train_examples=trial.workload.num_train_examples(),
            set_auxiliary_dropout=auxiliary_dropout_setter(model),
            no_sync=getattr(self.loss, "no_sync", nullcontext),
        )
