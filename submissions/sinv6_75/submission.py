"""Sinv6 told that training ends after three quarters of the step hint: its rate falls earlier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from perfbench.api import TrainingContext
from perfbench.api.optim import learned_rate, rate_weights

HORIZON_FACTOR = 0.75
"""Of the step hint; a fraction of an update is kept where the entry keeps it."""

STAND_INS = rate_weights.STAND_INS


def build(context: TrainingContext, *, files: Mapping[str, Path]) -> learned_rate.LearnedRateSubmission:
    """Return the learned optimizer of `sinv6` with the shorter horizon."""
    weights = rate_weights.read_weights(files["weights"])
    return learned_rate.LearnedRateSubmission(context, weights, horizon=HORIZON_FACTOR * context.step_hint)
