"""The cosine of the self-tuning entries written in PyTorch, and what it does once its horizon is over.

Self-tuning has a longer budget than the step hint that these entries plan for. Their cosine is periodic: what ran in
the competition rises again. That it was meant to stay at zero is an option, not a correction made in silence.
"""

from __future__ import annotations

from enum import StrEnum

from perfbench.api.gradient import Schedule
from perfbench.api.schedules import WarmupPeriodicCosine


class AfterHorizon(StrEnum):
    """The learning rate after the horizon."""

    RISES_AGAIN = "rises_again"
    """As run: ``CosineAnnealingLR`` is periodic."""
    STAYS_AT_ZERO = "stays_at_zero"


def warmup_cosine(peak: float, *, horizon: float, warmup_factor: float, after: AfterHorizon) -> Schedule:
    """Return linear warm-up over a whole number of updates, then a cosine to zero at the horizon.

    Args:
        peak: Highest rate.
        horizon: Updates until the rate is zero for the first time; may be fractional.
        warmup_factor: Of the horizon.
        after: What follows.
    """
    cosine = WarmupPeriodicCosine(peak, horizon=horizon, warmup=int(warmup_factor * horizon))

    def rate(k: int) -> float:
        return 0.0 if k >= horizon and after is AfterHorizon.STAYS_AT_ZERO else cosine(k)

    return rate
