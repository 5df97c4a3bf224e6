"""KL-Shampoo or KL-SOAP for matrices, AdamW for all else, at one point."""

from __future__ import annotations

from typing import Literal

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import RateAndDecay, SplitRecipe, split_matrices
from perfbench.spec.base import Spec
from submissions.kl_shampoo.optimizer import KlShampoo, KlSoap

MAX_SIDE = 10_000
"""A matrix with a longer side gets AdamW: its factor would not fit."""


Hyperparameters = RateAndDecay
"""One point of the search space; both numbers are of the matrices."""


class Options(Spec):
    """Which of the two methods."""

    method: Literal["shampoo", "soap"] = "soap"
    """Scales from the eigenvalues of the two factors, or Adam in their bases."""


POINT = Hyperparameters(learning_rate=1e-3, weight_decay=0.01)
RECIPE = SplitRecipe(point=POINT, others_rate=1e-3, others_betas=(0.9, 0.98), warmup_factor=0.02)
METHODS = {"shampoo": KlShampoo, "soap": KlSoap}


def build(
    context: TrainingContext, hyperparameters: Hyperparameters = POINT, *, options: Options
) -> GradientSubmission:
    """Return the method of the options."""
    point = hyperparameters
    matrices, others = split_matrices(context.model, context.roles)
    fitting = [matrix for matrix in matrices if max(matrix.flatten(1).shape) <= MAX_SIDE]
    others += [matrix for matrix in matrices if max(matrix.flatten(1).shape) > MAX_SIDE]
    method = METHODS[options.method]
    return RECIPE.submission(
        context, point, lambda chosen: method(chosen, weight_decay=point.weight_decay), split=(fitting, others)
    )
