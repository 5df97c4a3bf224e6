"""Dion2 for matrices, AdamW for all else, at one point."""

from __future__ import annotations

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import RateAndDecay, SplitRecipe
from submissions.dion2.optimizer import Dion2

Hyperparameters = RateAndDecay
"""One point of the search space; both numbers are of the matrices."""


POINT = Hyperparameters(learning_rate=0.01, weight_decay=0.01)
RECIPE = SplitRecipe(point=POINT)


def build(context: TrainingContext, hyperparameters: Hyperparameters = POINT) -> GradientSubmission:
    """Return Dion2."""
    point = hyperparameters
    return RECIPE.submission(context, point, lambda matrices: Dion2(matrices, weight_decay=point.weight_decay))
