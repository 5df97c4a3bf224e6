"""Sinv6: the network is told that training ends at the step hint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from perfbench.api import TrainingContext
from perfbench.api.optim.learned_rate import LearnedRateSubmission
from perfbench.api.optim.rate_weights import STAND_INS, read_weights

__all__ = ["STAND_INS", "build"]


def build(context: TrainingContext, *, files: Mapping[str, Path]) -> LearnedRateSubmission:
    """Return the learned optimizer; the budget of self-tuning goes on after its horizon."""
    return LearnedRateSubmission(context, read_weights(files["weights"]), horizon=context.step_hint)
