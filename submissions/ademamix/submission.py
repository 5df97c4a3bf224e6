"""AdEMAMix at the point of the self-tuning entry."""

from __future__ import annotations

from typing import Literal

from pytorch_optimizer import AdEMAMix

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.horizon import AfterHorizon, warmup_cosine
from perfbench.spec.base import Spec

LEARNING_RATE = 2e-3
BETAS = {"as_run": (0.8, 0.995, 0.9995), "authors": (0.9, 0.999, 0.9999)}
"""Decay of the fast momentum, of the second moment and, at the end of its warm-up, of the slow momentum."""
ALPHA = 8.0
"""Weight of the slow momentum at the end of its warm-up."""
MIXING_WARMUP_STEPS = 500_000
WEIGHT_DECAY = 0.1
WARMUP_FACTOR = 0.02
MAX_GRAD_NORM = 0.5


class Options(Spec):
    """What is fixed, but not by the method."""

    mixing_warmup: Literal["as_run", "step_hint"] = "as_run"
    """How long the slow momentum grows: 500 000 steps, longer than any workload, or the step hint, as the paper has
    it."""
    after_horizon: AfterHorizon = AfterHorizon.RISES_AGAIN
    betas: Literal["as_run", "authors"] = "as_run"
    """The entry's decays, for its short trials, or those that the authors use."""


def build(context: TrainingContext, *, options: Options) -> GradientSubmission:
    """Return AdEMAMix; weight decay acts on every parameter, as in the entry."""
    optimizer = AdEMAMix(
        context.model.parameters(),
        lr=LEARNING_RATE,
        betas=BETAS[options.betas],
        alpha=ALPHA,
        t_alpha_beta3=MIXING_WARMUP_STEPS if options.mixing_warmup == "as_run" else context.step_hint,
        weight_decay=WEIGHT_DECAY,
        weight_decouple=True,
    )
    schedule = warmup_cosine(
        LEARNING_RATE, horizon=context.step_hint, warmup_factor=WARMUP_FACTOR, after=options.after_horizon
    )
    return GradientSubmission(context, [optimizer], schedule=schedule, max_grad_norm=MAX_GRAD_NORM)
