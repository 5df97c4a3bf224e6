"""Distributed Shampoo, the winner of the competition's external tuning ruleset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from perfbench.api import Batch, GradientSubmission, StepReport, TrainingContext
from perfbench.api.horizon import AfterHorizon, warmup_cosine
from perfbench.api.optim.blocking import Blocking
from perfbench.api.workload import Shard
from perfbench.spec.base import Spec
from submissions.shampoo.optimizer import DistributedShampoo
from submissions.shampoo.settings import Grafting, ShampooSettings

LARGE_DIMENSION = 1_000_000
"""Parameters with a dimension of at least this are updated by a graft alone, as in the competition."""
LARGE_BLOCK_ROWS = 524_288
ADVISED_BLOCK_SIDE = 8192
ADVISED_RIDGE = 1e-12
ADVISED_PERIOD = 10
"""Updates from one computation of roots to the next."""


class Hyperparameters(Spec):
    """One point of the search space, named as in the competition."""

    learning_rate: float = Field(gt=0)
    one_minus_beta1: float = Field(gt=0, le=1)
    one_minus_beta2: float = Field(gt=0, le=1)
    one_minus_momentum: float | None = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    inv_root_override: int = Field(ge=0)
    grafting_type: Grafting
    use_nadam: bool
    warmup_factor: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)
    step_hint_factor: float = Field(gt=0)


class LargeTableGraft(StrEnum):
    """How parameters are updated that are too large for Shampoo."""

    ADAM = "adam"
    """As run: the Adam graft, whatever the point's, so that a rate meant for SGD's lengths takes Adam's steps."""
    OF_POINT = "of_point"
    """As intended: the point's graft, as everywhere else."""


class Options(Spec):
    """Behaviours as run or as intended."""

    after_horizon: AfterHorizon
    large_table_graft: LargeTableGraft
    numbers: Literal["as_run", "authors"]
    """The entry's block size, ridge and period of roots, or what the authors advise to begin with."""


class Shampoo(GradientSubmission):
    """Two instances: Shampoo, and its graft alone for parameters that are too large for it."""

    state_is_sharded: ClassVar[bool] = True

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step; report how many inverse roots could not be computed so far."""
        report = super().update_params(batch)
        kept = sum(o.num_kept_roots for o in self.optimizers if isinstance(o, DistributedShampoo))
        return StepReport(
            loss=report.loss,
            grad_norm=report.grad_norm,
            learning_rate=report.learning_rate,
            extra={"num_kept_roots": float(kept)},
        )


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> Shampoo:
    """Return Shampoo for one point; weight decay acts on every parameter, as in the competition."""
    point = hyperparameters
    optimizers = instances(dict(context.model.named_parameters()), point, options, shard=context.shard)
    schedule = warmup_cosine(
        point.learning_rate,
        horizon=point.step_hint_factor * context.step_hint,
        warmup_factor=point.warmup_factor,
        after=options.after_horizon,
    )
    return Shampoo(
        context,
        optimizers,
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )


def instances(
    parameters: Mapping[str, nn.Parameter], point: Hyperparameters, options: Options, *, shard: Shard
) -> list[DistributedShampoo]:
    """Return one optimizer for the parameters of ordinary size and one for large ones, where there are any."""
    large = {name: p for name, p in parameters.items() if max(p.shape, default=1) >= LARGE_DIMENSION}
    ordinary = {name: p for name, p in parameters.items() if name not in large}
    return [
        DistributedShampoo(chosen, settings, lr=point.learning_rate, rank=shard.rank, num_ranks=shard.num_ranks)
        for chosen, settings in ((ordinary, _settings(point, options)), (large, _large_settings(point, options)))
        if chosen
    ]


def _settings(point: Hyperparameters, options: Options) -> ShampooSettings:
    settings = ShampooSettings(
        beta1=1 - point.one_minus_beta1,
        beta2=1 - point.one_minus_beta2,
        weight_decay=point.weight_decay,
        grafting=point.grafting_type,
        use_nadam=point.use_nadam,
        momentum=0.0 if point.one_minus_momentum is None else 1 - point.one_minus_momentum,
        inv_root_override=point.inv_root_override,
    )
    if options.numbers == "as_run":
        return settings
    blocking = Blocking(max_dimension=ADVISED_BLOCK_SIDE)
    return dataclasses.replace(
        settings, blocking=blocking, epsilon=ADVISED_RIDGE, precondition_frequency=ADVISED_PERIOD
    )


def _large_settings(point: Hyperparameters, options: Options) -> ShampooSettings:
    is_as_run = options.large_table_graft is LargeTableGraft.ADAM
    return dataclasses.replace(
        _settings(point, options),
        grafting=Grafting.ADAM if is_as_run else point.grafting_type,
        blocking=Blocking(max_dimension=LARGE_BLOCK_ROWS),
        is_preconditioned=False,
    )
