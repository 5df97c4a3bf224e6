"""NorMuon for matrices, AdamW for all else, at one point."""

from __future__ import annotations

from typing import Literal

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import (
    POLAR_EXPRESS,
    Momentum,
    MuonSettings,
    NorMuon,
    RateAndDecay,
    RateFactor,
    SplitRecipe,
)
from perfbench.spec.base import Spec

Hyperparameters = RateAndDecay
"""One point of the search space; both numbers are of the matrices."""


class Options(Spec):
    """Which of two published forms."""

    form: Literal["authors", "dion"] = "authors"
    """The authors' code, or microsoft/dion's: a plain sum as momentum, Polar Express, another factor of the rate."""


POINT = Hyperparameters(learning_rate=0.01, weight_decay=0.025)
RECIPE = SplitRecipe(point=POINT)
SETTINGS = {
    "authors": MuonSettings(),
    "dion": MuonSettings(momentum=Momentum.SUM, polynomials=POLAR_EXPRESS, rate_factor=RateFactor.SPECTRAL),
}


def build(
    context: TrainingContext, hyperparameters: Hyperparameters = POINT, *, options: Options
) -> GradientSubmission:
    """Return NorMuon."""
    point = hyperparameters
    settings = SETTINGS[options.form]
    return RECIPE.submission(
        context, point, lambda matrices: NorMuon(matrices, weight_decay=point.weight_decay, settings=settings)
    )
