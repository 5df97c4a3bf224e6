"""Learning-rate schedules, exactly as the competition's entries used them.

A schedule maps ``k``, the number of updates already made, to the rate of the next one. Source of the two forms and
of their check figures: AlgoPerf v0.5 submissions, measured against optax and ``torch.optim.lr_scheduler``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_START_FACTOR = 1e-10
"""Of the peak: where the linear warm-up of the PyTorch entries starts."""


@dataclass(frozen=True, slots=True)
class WarmupCosine:
    """Linear warm-up from zero, cosine to zero, zero ever after (optax; the entries written in JAX).

    Args:
        peak: Highest rate.
        horizon: Updates until the rate is zero.
        warmup: Updates until the peak; the first update has rate zero.
    """

    peak: float
    horizon: int
    warmup: int

    def __call__(self, k: int) -> float:
        """Return the rate of update ``k``, counted from 0."""
        if k < self.warmup:
            return self.peak * k / self.warmup
        length = max(self.horizon - self.warmup, 1)
        position = min(k - self.warmup, length) / length
        return self.peak * 0.5 * (1 + math.cos(math.pi * position))


@dataclass(frozen=True, slots=True)
class WarmupPeriodicCosine:
    """The form of ``LinearLR`` then ``CosineAnnealingLR``: after its horizon the rate rises again.

    The entries written in PyTorch ran like this (Shampoo's second point uses it: its horizon is 0.6 of the budget).
    For a whole number of warm-up updates it is ``torch.optim.lr_scheduler.SequentialLR`` to 1e-13 of the peak. With
    a fractional one the peak lies between two updates; ``SequentialLR`` never meets such a milestone and continues
    from its last warm-up rate instead, which is lower by up to ``1 / warmup`` of it (torch 2.14).

    Args:
        peak: Highest rate.
        horizon: Updates until the rate is zero for the first time; may be fractional.
        warmup: Updates until the peak; may be fractional. The first update has 1e-10 of the peak.
    """

    peak: float
    horizon: float
    warmup: float

    def __call__(self, k: int) -> float:
        """Return the rate of update ``k``, counted from 0."""
        if k < self.warmup:
            return self.peak * (_START_FACTOR + (1 - _START_FACTOR) * k / self.warmup)
        length = max(self.horizon - self.warmup, 1)
        return self.peak * 0.5 * (1 + math.cos(math.pi * (k - self.warmup) / length))
