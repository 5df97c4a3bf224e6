"""Scion for matrices and tables, AdamW for gains, biases and numbers, at one point."""

from __future__ import annotations

from torch import nn
from torch.optim.optimizer import Optimizer

from perfbench.api import GradientSubmission, ParameterRole, TrainingContext
from perfbench.api.optim import RateAndDecay, SplitRecipe
from submissions.scion.optimizer import Ball, Scion

MATRIX_RADIUS, TABLE_RADIUS = 8.0, 128.0
"""Those that the authors have for hidden and output layers of image models."""


Hyperparameters = RateAndDecay
"""One point of the search space; a decay of 1 is the constrained form."""


POINT = Hyperparameters(learning_rate=2**-10, weight_decay=0.0)
RECIPE = SplitRecipe(point=POINT, is_linear=True)


def build(context: TrainingContext, hyperparameters: Hyperparameters = POINT) -> GradientSubmission:
    """Return Scion."""
    point = hyperparameters
    roles = {parameter: context.roles[name] for name, parameter in context.model.named_parameters()}

    def scion(parameters: list[nn.Parameter]) -> Optimizer:
        tables = [p for p in parameters if roles[p] is ParameterRole.EMBEDDING]
        matrices = [p for p in parameters if roles[p] is not ParameterRole.EMBEDDING]
        groups = [
            {"params": matrices, "ball": Ball.SPECTRAL.value, "radius": MATRIX_RADIUS},
            {"params": tables, "ball": Ball.SIGN.value, "radius": TABLE_RADIUS},
        ]
        return Scion([group for group in groups if group["params"]], weight_decay=point.weight_decay)

    parameters = list(context.model.parameters())
    split = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
    return RECIPE.submission(context, point, scion, split=split)
