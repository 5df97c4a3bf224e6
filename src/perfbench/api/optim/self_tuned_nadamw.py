"""NAdamW and its relatives at the one point that the competition's self-tuning baseline has for every workload.

Source: AlgoPerf v0.5, self-tuning, ``baseline``: the fifth point of the external baseline.
"""

from __future__ import annotations

from typing import Literal

from perfbench.api.gradient import GradientSubmission
from perfbench.api.optim.nadamw import FirstMoment, MomentCorrection, NAdamW, nadamw_at
from perfbench.api.optim.points import AdamPoint
from perfbench.api.schedules import WarmupCosine
from perfbench.api.submission import TrainingContext
from perfbench.spec.base import Spec

_POINT = AdamPoint(
    learning_rate=0.0017486387539278373,
    one_minus_beta1=0.06733926164,
    beta2=0.9955159689799007,
    weight_decay=0.08121616522670176,
    warmup_factor=0.02,
    label_smoothing=0.0,
    dropout_rate=0.1,
)


class SelfTunedOptions(Spec):
    """What is fixed, but not by the method."""

    horizon: Literal["step_hint", "budget"] = "step_hint"
    """Where the rate reaches zero: at the step hint, as run, or at the end of the longer budget of self-tuning."""
    first_moment: MomentCorrection = MomentCorrection.AS_RUN


def self_tuned_nadamw(
    context: TrainingContext,
    options: SelfTunedOptions,
    *,
    uses_dropout_rate: bool,
    optimizer_type: type[NAdamW] = NAdamW,
) -> GradientSubmission:
    """Return the submission; weight decay acts on every parameter, as in the competition.

    Args:
        context: What the engine offers.
        options: As run or not.
        uses_dropout_rate: Whether the point's dropout rate is set on the model, which the baseline forgot.
        optimizer_type: A relative of NAdamW.
    """
    horizon = context.step_hint
    if options.horizon == "budget" and context.max_steps is not None:
        horizon = context.max_steps
    optimizer = nadamw_at(
        _POINT,
        context.model.parameters(),
        first_moment=FirstMoment(correction=options.first_moment),
        optimizer_type=optimizer_type,
    )
    schedule = WarmupCosine(peak=_POINT.learning_rate, horizon=horizon, warmup=int(_POINT.warmup_factor * horizon))
    dropout_rate = _POINT.dropout_rate if uses_dropout_rate else None
    return GradientSubmission(context, [optimizer], schedule=schedule, dropout_rate=dropout_rate)
