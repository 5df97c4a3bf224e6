"""The cosine of the entries written in PyTorch, and what it does once its horizon is over.

A horizon may end before training does: it is a part of the step hint, or self-tuning's longer budget goes on after
it. The cosine is periodic: what ran in the competition rises again. That it was meant to stay at zero is an option,
not a correction made in silence.
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
    return WarmupPeriodicCosine(
        peak,
        horizon=horizon,
        warmup=int(warmup_factor * horizon),
        rises_again=after is AfterHorizon.RISES_AGAIN,
    )
