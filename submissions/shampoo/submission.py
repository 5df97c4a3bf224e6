"""Distributed Shampoo, the winner of the competition's external tuning ruleset."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from perfbench.api import Batch, GradientSubmission, StepReport, TrainingContext
from perfbench.api.optim.blocking import Blocking
from perfbench.api.schedules import WarmupPeriodicCosine
from perfbench.spec.base import Spec
from submissions.shampoo.optimizer import DistributedShampoo
from submissions.shampoo.settings import Grafting, ShampooSettings

LARGE_DIMENSION = 1_000_000
"""Parameters with a dimension of at least this are updated by the Adam graft alone, as in the competition."""
LARGE_BLOCK_ROWS = 524_288


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


class Shampoo(GradientSubmission):
    """Two instances: Shampoo, and its Adam graft for parameters that are too large for it."""

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


def build(context: TrainingContext, hyperparameters: Hyperparameters) -> Shampoo:
    """Return Shampoo for one point; weight decay acts on every parameter, as in the competition."""
    point, shard = hyperparameters, context.shard
    named = dict(context.model.named_parameters())
    large = {name: p for name, p in named.items() if max(p.shape, default=1) >= LARGE_DIMENSION}
    ordinary = {name: p for name, p in named.items() if name not in large}
    optimizers = [
        DistributedShampoo(
            chosen,
            _settings(point, is_large=chosen is large),
            lr=point.learning_rate,
            rank=shard.rank,
            num_ranks=shard.num_ranks,
        )
        for chosen in (ordinary, large)
        if chosen
    ]
    schedule = WarmupPeriodicCosine(
        peak=point.learning_rate,
        horizon=point.step_hint_factor * context.step_hint,
        warmup=int(point.warmup_factor * point.step_hint_factor * context.step_hint),
    )
    return Shampoo(
        context,
        optimizers,
        schedule=schedule,
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )


def _settings(point: Hyperparameters, *, is_large: bool) -> ShampooSettings:
    return ShampooSettings(
        beta1=1 - point.one_minus_beta1,
        beta2=1 - point.one_minus_beta2,
        weight_decay=point.weight_decay,
        grafting=Grafting.ADAM if is_large else point.grafting_type,
        use_nadam=point.use_nadam,
        momentum=0.0 if point.one_minus_momentum is None else 1 - point.one_minus_momentum,
        inv_root_override=point.inv_root_override,
        blocking=Blocking(max_dimension=LARGE_BLOCK_ROWS if is_large else 1024),
        is_preconditioned=not is_large,
    )
