"""CASPR with the adaptive scale, at the points of the competition's baseline."""

from __future__ import annotations

import dataclasses
from typing import Literal

from perfbench.api import Batch, GradientSubmission, StepReport, TrainingContext
from perfbench.api.optim import AdamPoint, MomentCorrection
from perfbench.api.schedules import NestedCosine
from perfbench.spec.base import Spec
from submissions.caspr_adaptive.matrices import matrix_views
from submissions.caspr_adaptive.optimizer import CasprAdaptive, CasprSettings

Hyperparameters = AdamPoint
"""One point of the search space."""


class Options(Spec):
    """What is fixed, but not by the method."""

    graft: Literal["as_run", "guarded"] = "as_run"
    """As run, a matrix without any gradient so far divides zero by zero; guarded, it stays where it is."""
    first_moment: MomentCorrection = MomentCorrection.AS_RUN
    """Of NAdamW, whose length all updates have."""


class Caspr(GradientSubmission):
    """An ordinary step that also tells how many inverse roots of this rank could not be computed so far."""

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step."""
        report = super().update_params(batch)
        kept = sum(caspr.num_kept_roots for caspr in self.optimizers if isinstance(caspr, CasprAdaptive))
        return dataclasses.replace(report, extra={"num_kept_roots": float(kept)})


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> Caspr:
    """Return CASPR for one point; weight decay acts on every parameter, as in the competition."""
    point = hyperparameters
    settings = CasprSettings(
        betas=point.betas,
        weight_decay=point.weight_decay,
        graft_is_guarded=options.graft == "guarded",
        first_moment=options.first_moment,
    )
    optimizer = CasprAdaptive(
        dict(context.model.named_parameters()),
        matrix_views(context.model, context.roles),
        settings,
        lr=point.learning_rate,
        shard=context.shard,
    )
    return Caspr(
        context,
        [optimizer],
        schedule=NestedCosine(point.learning_rate, horizon=context.step_hint, warmup_factor=point.warmup_factor),
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )
