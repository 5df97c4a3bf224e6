"""The competition's self-tuning baseline: NAdamW at one point that is the same for every workload."""

from __future__ import annotations

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import SelfTunedOptions as Options
from perfbench.api.optim import self_tuned_nadamw

__all__ = ["Options", "build"]


def build(context: TrainingContext, *, options: Options) -> GradientSubmission:
    """Return NAdamW; the dropout rate that the entry lists is not used, as in the competition."""
    return self_tuned_nadamw(context, options, uses_dropout_rate=False)
