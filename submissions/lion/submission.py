"""Lion at the point of the self-tuning entry."""

from __future__ import annotations

from typing import Literal

from pytorch_optimizer import Lion

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.horizon import AfterHorizon, warmup_cosine
from perfbench.spec.base import Spec

LEARNING_RATE = 2e-4
BETAS = {"as_run": (0.95, 0.98), "authors": (0.9, 0.99)}
WEIGHT_DECAY = 0.5
WARMUP_FACTOR = 0.02


class Options(Spec):
    """What is fixed, but not by the method."""

    after_horizon: AfterHorizon = AfterHorizon.RISES_AGAIN
    betas: Literal["as_run", "authors"] = "as_run"
    """The entry's, which the authors have for language models, or the authors' default."""


def build(context: TrainingContext, *, options: Options) -> GradientSubmission:
    """Return Lion; weight decay acts on every parameter, as in the entry."""
    schedule = warmup_cosine(
        LEARNING_RATE, horizon=context.step_hint, warmup_factor=WARMUP_FACTOR, after=options.after_horizon
    )
    optimizer = Lion(
        context.model.parameters(), lr=LEARNING_RATE, betas=BETAS[options.betas], weight_decay=WEIGHT_DECAY
    )
    return GradientSubmission(context, [optimizer], schedule=schedule)
