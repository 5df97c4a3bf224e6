"""LAMB: Adam whose update of each tensor is as long as the tensor's weights, times the rate."""

from __future__ import annotations

from typing import Literal

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import AdamPoint, submission_at
from perfbench.api.schedules import WarmupCosine, WarmupPeriodicCosine
from perfbench.spec.base import Spec
from submissions.lamb.optimizer import Lamb

Hyperparameters = AdamPoint
"""One point of the search space."""


class Options(Spec):
    """What is fixed, but not by the method."""

    warmup_from: Literal["zero", "almost_zero"] = "zero"
    """Of the peak rate, the first update's part: none (the JAX baseline), or 1e-10 (the PyTorch baseline)."""


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> GradientSubmission:
    """Return LAMB; weight decay and the ratio act on every parameter, as in the benchmark's baseline."""
    point, horizon = hyperparameters, context.step_hint
    optimizer = Lamb(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=point.betas,
        weight_decay=point.weight_decay,
    )
    cosine = WarmupCosine if options.warmup_from == "zero" else WarmupPeriodicCosine
    schedule = cosine(point.learning_rate, horizon=horizon, warmup=int(point.warmup_factor * horizon))
    return submission_at(point, context, optimizer, schedule=schedule)
