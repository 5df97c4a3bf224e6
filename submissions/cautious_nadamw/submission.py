"""Cautious NAdamW at the point of the self-tuning baseline."""

from __future__ import annotations

from perfbench.api import GradientSubmission, TrainingContext
from perfbench.api.optim import SelfTunedOptions as Options
from perfbench.api.optim import self_tuned_nadamw
from submissions.cautious_nadamw.optimizer import CautiousNAdamW

__all__ = ["Options", "build"]


def build(context: TrainingContext, *, options: Options) -> GradientSubmission:
    """Return Cautious NAdamW; weight decay acts on every parameter, as in the entry."""
    return self_tuned_nadamw(context, options, uses_dropout_rate=True, optimizer_type=CautiousNAdamW)
