"""Cautious NAdamW at the point of the self-tuning baseline."""

from __future__ import annotations

from typing import Literal

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import FirstMoment, MomentCorrection
from perfbench.api.schedules import WarmupCosine
from perfbench.spec.base import Spec
from submissions.cautious_nadamw.optimizer import CautiousNAdamW

LEARNING_RATE = 0.0017486387539278373
BETAS = (1 - 0.06733926164, 0.9955159689799007)
WEIGHT_DECAY = 0.08121616522670176
WARMUP_FACTOR = 0.02
DROPOUT_RATE = 0.1


class Options(Spec):
    """What is fixed, but not by the method."""

    horizon: Literal["step_hint", "budget"] = "step_hint"
    """Where the rate reaches zero: at the step hint, as run, or at the end of the longer budget of self-tuning."""
    first_moment: MomentCorrection = MomentCorrection.AS_RUN


def build(context: TrainingContext, *, options: Options) -> GradientSubmission:
    """Return Cautious NAdamW; weight decay acts on every parameter, as in the entry."""
    horizon = context.step_hint
    if options.horizon == "budget" and context.max_steps is not None:
        horizon = context.max_steps
    schedule = WarmupCosine(peak=LEARNING_RATE, horizon=horizon, warmup=int(WARMUP_FACTOR * horizon))
    optimizer = CautiousNAdamW(
        context.model.parameters(),
        lr=LEARNING_RATE,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
        first_moment=FirstMoment(correction=options.first_moment),
    )
    return GradientSubmission(context, [optimizer], schedule=schedule, dropout_rate=DROPOUT_RATE)
