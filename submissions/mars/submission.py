"""MARS over AdamW or over Muon, at one point each."""

from __future__ import annotations

from typing import Literal

from pytorch_optimizer import MARS

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import RateAndDecay, SplitRecipe
from perfbench.api.schedules import WarmupCosine
from perfbench.spec.base import Spec
from submissions.mars.optimizer import MarsMuon

Hyperparameters = RateAndDecay
"""One point of the search space; both numbers are of tensors of two or more dimensions."""


class Options(Spec):
    """Over which method."""

    base: Literal["adamw", "muon"] = "adamw"
    """MARS-AdamW for all tensors of two or more dimensions, or MARS-M for matrices; AdamW for all else."""


ADAMW_POINT = Hyperparameters(learning_rate=3e-3, weight_decay=0.01)
MUON_POINT = Hyperparameters(learning_rate=1e-3, weight_decay=0.1)
OTHERS_RATE, OTHERS_BETAS, OTHERS_WEIGHT_DECAY = 3e-3, (0.9, 0.95), 0.1
RECIPE = SplitRecipe(point=MUON_POINT, others_rate=OTHERS_RATE, others_betas=OTHERS_BETAS)
BETAS, GAMMA = (0.95, 0.99), 0.025


def build(
    context: TrainingContext, hyperparameters: Hyperparameters | None = None, *, options: Options
) -> GradientSubmission:
    """Return MARS over the base of the options."""
    if options.base == "muon":
        point = hyperparameters or MUON_POINT
        return RECIPE.submission(
            context,
            point,
            lambda matrices: MarsMuon(matrices, weight_decay=point.weight_decay, gamma=GAMMA),
            others_weight_decay=OTHERS_WEIGHT_DECAY,
        )
    point = hyperparameters or ADAMW_POINT
    optimizer = MARS(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=BETAS,
        gamma=GAMMA,
        weight_decay=point.weight_decay,
        lr_1d=OTHERS_RATE * point.learning_rate / ADAMW_POINT.learning_rate,
        betas_1d=OTHERS_BETAS,
        weight_decay_1d=OTHERS_WEIGHT_DECAY,
    )
    horizon = context.step_hint
    schedule = WarmupCosine(point.learning_rate, horizon=horizon, warmup=int(RECIPE.warmup_factor * horizon))
    return GradientSubmission(context, [optimizer], schedule=schedule)
