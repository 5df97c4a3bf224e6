"""Generalized Adam: NAdamW, or momentum SGD with decoupled decay, whichever the point asks for."""

from __future__ import annotations

import torch

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import CosineFractionPoint, FirstMoment, MomentCorrection, nadamw_at, submission_at
from perfbench.spec.base import Spec
from submissions.generalized_adam.decoupled_sgd import DecoupledSGD


class Hyperparameters(CosineFractionPoint):
    """One point of the search space, named as in the competition."""

    disable_preconditioning: bool


class Options(Spec):
    """Behaviours as run or as intended."""

    first_moment: MomentCorrection


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return the optimizer of the point; weight decay acts on every parameter."""
    point = hyperparameters
    optimizer = _optimizer(context, point, options)
    return submission_at(point, context, optimizer, schedule=point.schedule(context.step_hint))


def _optimizer(context: TrainingContext, point: Hyperparameters, options: Options) -> torch.optim.Optimizer:
    parameters = context.model.parameters()
    if point.disable_preconditioning:
        return DecoupledSGD(
            parameters,
            lr=point.learning_rate,
            momentum=point.beta1,
            weight_decay=point.weight_decay,
            nesterov=point.nesterov,
        )
    first_moment = FirstMoment(nesterov=point.nesterov, correction=options.first_moment)
    return nadamw_at(point, parameters, first_moment=first_moment)
