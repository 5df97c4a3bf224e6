"""Learning-rate schedules, exactly as the competition's entries used them.

A schedule maps ``k``, the number of updates already made, to the rate of the next one. Source of the forms and
of their check figures: AlgoPerf v0.5 submissions, measured against optax and ``torch.optim.lr_scheduler``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

_START_FACTOR = 1e-10
"""Of the peak: where the linear warm-up of the PyTorch entries starts."""
_LOWEST_RATE = 1e-10
"""Where the cycles of ``CyclicCosine`` start and end."""


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
        rises_again: ``False`` keeps the rate at zero after the horizon, as intended by those who wrote it.
    """

    peak: float
    horizon: float
    warmup: float
    rises_again: bool = True

    def __call__(self, k: int) -> float:
        """Return the rate of update ``k``, counted from 0."""
        if k < self.warmup:
            return self.peak * (_START_FACTOR + (1 - _START_FACTOR) * k / self.warmup)
        position = (k - self.warmup) / max(self.horizon - self.warmup, 1)
        if not self.rises_again:
            position = min(position, 1.0)
        return self.peak * 0.5 * (1 + math.cos(math.pi * position))


@dataclass(frozen=True, slots=True)
class CyclicCosine:
    """Equal cycles of linear warm-up and half a cosine; the first update at the full peak.

    The entries that used it stepped their scheduler after each update and set no rate before the first one, so the
    first update runs at the peak instead of the start of the warm-up. After the horizon the rate stays at 1e-10.

    Args:
        peak: Highest rate.
        horizon: Updates until the end of the last cycle.
        warmup: Updates from a cycle's start to its peak, the same in every cycle.
        num_cycles: How many.
        starts_at_peak: ``False`` gives the first update the rate at which the warm-up starts, as intended.
    """

    peak: float
    horizon: int
    warmup: int
    num_cycles: int = 1
    starts_at_peak: bool = True

    def __call__(self, k: int) -> float:
        """Return the rate of update ``k``, counted from 0."""
        if k == 0:
            return self.peak if self.starts_at_peak else _LOWEST_RATE
        if k > self.horizon:
            return _LOWEST_RATE
        length = self.horizon / self.num_cycles
        position = k - (math.ceil(k / length) - 1) * length  # a cycle owns its last update, not its first
        height = self.peak - _LOWEST_RATE
        if position <= self.warmup:
            return _LOWEST_RATE + height * position / self.warmup
        angle = math.pi * (position - self.warmup) / (length - self.warmup)
        return _LOWEST_RATE + 0.5 * height * (1 + math.cos(angle))


@dataclass(frozen=True, slots=True)
class NestedCosine:
    """Three cosines to zero, the second and third starting from where one long cosine would be.

    Args:
        peak: Highest rate.
        horizon: Updates until the rate is zero for the last time.
        warmup_factor: Updates until the peak, as a part of the first section; the long cosine has its own warm-up,
            the same part of the whole horizon.
    """

    peak: float
    horizon: int
    warmup_factor: float

    SECTION_ENDS: ClassVar[tuple[float, float, float]] = (0.53571619898, 0.75, 1.0)
    """As parts of the horizon."""

    def __call__(self, k: int) -> float:
        """Return the rate of update ``k``, counted from 0."""
        first, second, third = (end * self.horizon for end in self.SECTION_ENDS)
        if k < first:
            warmup = int(self.warmup_factor * first)
            return self.peak * (k / warmup if k < warmup else _falling((k - warmup) / (first - warmup)))
        start, end = (first, second) if k < second else (second, third)
        return self._long_cosine(start) * _falling(min((k - start) / (end - start), 1.0))

    def _long_cosine(self, k: float) -> float:
        warmup = int(self.warmup_factor * self.horizon)
        return self.peak * _falling((k - warmup) / (self.horizon - warmup))


def _falling(position: float) -> float:
    """Return half a cosine from 1 at position 0 to 0 at position 1."""
    return 0.5 * (1 + math.cos(math.pi * position))


@dataclass(frozen=True, slots=True)
class WarmupLinear:
    """Linear warm-up from zero, linear decay to a part of the peak, constant ever after.

    Args:
        peak: Highest rate.
        warmup: Updates until the peak; the first update has rate zero.
        decay: Updates from the peak to the end of the decay.
        end_factor: The last rate as a part of the peak.
    """

    peak: float
    warmup: int
    decay: int
    end_factor: float

    def __call__(self, k: int) -> float:
        """Return the rate of update ``k``, counted from 0."""
        if k < self.warmup:
            return self.peak * k / self.warmup
        position = min((k - self.warmup) / self.decay, 1.0) if self.decay else 1.0
        return self.peak * (1 + (self.end_factor - 1) * position)


@dataclass(frozen=True, slots=True)
class WarmupConstant:
    """Linear warm-up, then constant: the rate of Schedule-Free methods.

    Args:
        peak: Highest rate.
        warmup: Updates until the peak, may be fractional; the first update already has ``1 / warmup`` of it.
        lowest: The rate is never below this.
    """

    peak: float
    warmup: float
    lowest: float = 0.0

    def __call__(self, k: int) -> float:
        """Return the rate of update ``k``, counted from 0."""
        if k + 1 >= self.warmup:
            return max(self.peak, self.lowest)
        return max(self.peak * (k + 1) / self.warmup, self.lowest)
