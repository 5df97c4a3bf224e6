"""A trial's evaluations as a curve, and several curves read at the same time and at the same step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perfbench.results.trials import Floats, Integers, RecordedTrial
from perfbench.spec.workload import Target


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The target's metric of one trial, an evaluation per element, oldest first."""

    label: str
    steps: Integers
    times_s: Floats
    """On the clock."""
    values: Floats
    target: Target
    submission: str = ""
    """Whose it is; its look follows from that."""

    def at_time(self, time_s: float) -> float:
        """Return the latest evaluation at or before a time on the clock; NaN before the first."""
        return self._latest(int(np.searchsorted(self.times_s, time_s, side="right")))

    def at_step(self, step: int) -> float:
        """Return the latest evaluation at or before a step; NaN before the first."""
        return self._latest(int(np.searchsorted(self.steps, step, side="right")))

    def _latest(self, count: int) -> float:
        return float(self.values[count - 1]) if count else math.nan


def curve_of(label: str, trial: RecordedTrial) -> Curve:
    """Return the curve of a trial."""
    log = trial.log()
    return Curve(
        label, log.steps, log.submission_times_s, log.target_metric, trial.spec.target, trial.spec.submission.name
    )


def common_time_s(curves: Sequence[Curve]) -> float | None:
    """Return the latest time that every curve has reached; ``None`` where one has no evaluation."""
    return min(float(curve.times_s[-1]) for curve in curves) if all(map(_has_any, curves)) else None


def common_step(curves: Sequence[Curve]) -> int | None:
    """Return the latest step that every curve has reached; ``None`` where one has no evaluation."""
    return min(int(curve.steps[-1]) for curve in curves) if all(map(_has_any, curves)) else None


def _has_any(curve: Curve) -> bool:
    return len(curve.steps) > 0


def seconds_to_target(curve: Curve, *, num_last: int = 6) -> float | None:
    """Estimate the seconds on the clock until a curve reaches its target, by the line through its last evaluations.

    ``None`` where it is there already, does not approach it, or has fewer than three finite evaluations.
    """
    times_s, values = curve.times_s[-num_last:], curve.values[-num_last:]
    finite = np.isfinite(values)
    times_s, values = times_s[finite], values[finite]
    if len(values) < 3 or curve.target.is_reached_by({curve.target.metric: float(values[-1])}):  # noqa: PLR2004
        return None
    slope = float(np.polyfit(times_s - times_s[-1], values, 1)[0]) if np.ptp(times_s) > 0 else 0.0
    missing = curve.target.threshold - float(values[-1])
    return missing / slope if slope * missing > 0 else None
