"""What the numbers of a trial say: the best metric, and the first loss that is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from perfbench.spec.result import Measurement
from perfbench.spec.workload import Direction, Target


def best_metric(measurements: Sequence[Measurement], target: Target) -> float | None:
    """Return the best finite value of the target's metric; ``None`` if there is none."""
    values = [measurement.metrics.get(target.metric, math.nan) for measurement in measurements]
    finite = [value for value in values if math.isfinite(value)]
    best = min if target.direction is Direction.MINIMIZE else max
    return best(finite, default=None)


def not_finite(values: Mapping[str, Sequence[float]]) -> str | None:
    """Say which training loss of a segment is the first that is not finite; ``None`` if all are."""
    for step, loss in zip(values.get("step", ()), values.get("loss", ()), strict=False):
        if not math.isfinite(loss):
            return f"the training loss at step {step:.0f} is {loss}"
    return None
