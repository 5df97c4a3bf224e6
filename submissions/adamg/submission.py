"""AdamG as the self-tuning entry ran it: a peak rate of one, the rest is the method's."""

from __future__ import annotations

from pytorch_optimizer import AdamG

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.horizon import AfterHorizon, warmup_cosine
from perfbench.spec.base import Spec

BETAS = (0.95, 0.999, 0.95)
"""Decay of the first moment, of the second, and of the scale."""
NUMERATOR = (0.2, 0.24)
"""``p`` and ``q`` of the scale ``p v^q``."""
PEAK = 1.0
HORIZON_FACTOR = 0.75
"""Of the step hint."""
WARMUP_FACTOR = 0.02


class Options(Spec):
    """What is fixed, but not by the method."""

    after_horizon: AfterHorizon = AfterHorizon.RISES_AGAIN


def build(context: TrainingContext, *, options: Options) -> GradientSubmission:
    """Return AdamG without weight decay, as in the entry."""
    p, q = NUMERATOR
    schedule = warmup_cosine(
        PEAK, horizon=HORIZON_FACTOR * context.step_hint, warmup_factor=WARMUP_FACTOR, after=options.after_horizon
    )
    return GradientSubmission(
        context, [AdamG(context.model.parameters(), lr=PEAK, betas=BETAS, p=p, q=q)], schedule=schedule
    )
