"""Hyperball: matrices keep their initial norm and turn by steps of a given angle; AdamW for all else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import nn
from torch.optim.optimizer import Optimizer

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import RateAndDecay, SplitRecipe, initial_scales, split_matrices
from perfbench.errors import SubmissionError
from perfbench.spec.base import Spec
from submissions.hyperball.optimizer import SETTINGS, AdamOnSphere, MuonOnSphere, NorMuonOnSphere

Hyperparameters = RateAndDecay
"""One point of the search space: the angle of a step, and AdamW's decay of all that is not on a sphere."""


class Options(Spec):
    """Whose direction."""

    base: Literal["adam", "muon", "normuon"] = "muon"


POINT = Hyperparameters(learning_rate=0.018, weight_decay=0.0)
RECIPE = SplitRecipe(point=POINT, warmup_factor=0.0, is_linear=True)
ADAM_WARMUP_FACTOR = 0.05
"""Of the step hint: 250 of about 5,000 updates, in the speed runs."""
SMALLEST_SCALE = 1e-8
"""Root mean square of a matrix's entries, below which its direction is noise."""

BASES: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "adam": AdamOnSphere,
    "muon": lambda matrices: MuonOnSphere(matrices, settings=SETTINGS),
    "normuon": lambda matrices: NorMuonOnSphere(matrices, settings=SETTINGS),
}


def build(
    context: TrainingContext, hyperparameters: Hyperparameters = POINT, *, options: Options
) -> GradientSubmission:
    """Return Hyperball around the base of the options.

    Raises:
        SubmissionError: If a matrix is almost, but not exactly, zero.
    """
    recipe = replace(RECIPE, warmup_factor=ADAM_WARMUP_FACTOR) if options.base == "adam" else RECIPE
    return recipe.submission(
        context,
        hyperparameters,
        BASES[options.base],
        split=split_off_zeros(context),
        others_weight_decay=hyperparameters.weight_decay,
    )


def split_off_zeros(context: TrainingContext) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the matrices that can be on a sphere and all else: those that start at zero cannot.

    Raises:
        SubmissionError: If a matrix is almost, but not exactly, zero.
    """
    matrices, _ = split_matrices(context.model, context.roles)
    scales = initial_scales(matrices)
    names = {parameter: name for name, parameter in context.model.named_parameters()}
    for matrix, scale in zip(matrices, scales, strict=True):
        if 0 < scale < SMALLEST_SCALE:
            raise SubmissionError(
                f"{names[matrix]} starts with entries of root mean square {scale:.1e}: its direction is noise",
                where="submissions/hyperball",
                hint="a matrix must start at zero (AdamW trains it) or well away from it",
            )
    on_sphere = [matrix for matrix, scale in zip(matrices, scales, strict=True) if scale]
    return on_sphere, [p for p in context.model.parameters() if not any(p is matrix for matrix in on_sphere)]
