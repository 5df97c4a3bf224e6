"""How long a running trial will still take: to its first limit, and by its curve to its target."""

from __future__ import annotations

import math
import time

import numpy as np

from perfbench.scoring.curves import Curve, seconds_to_target
from perfbench.spec.run import TrialSpec
from perfbench.tracking.follow import Progress

_NOT_TRAINING = ("starting", "compiling")
"""Phases of which a person only wants to know how long they have lasted."""


def nearest_limit(trial: TrialSpec, progress: Progress) -> tuple[str, float] | None:
    """Return which limit comes first, and in how many seconds on the clock; ``None`` before the speed is known."""
    if not progress.steps_per_s:
        return None
    limits = [(trial.max_submission_time_s - progress.submission_time_s, "budget")]
    if trial.max_steps is not None:
        limits.append(((trial.max_steps - progress.step) / progress.steps_per_s, "last step"))
    left_s, limit = min(limits)
    return limit, max(0.0, left_s)


def seconds_left_to_target(trial: TrialSpec, progress: Progress) -> float | None:
    """Guess the seconds on the clock until the target; ``None`` where the curve does not lead there in the budget."""
    recent = list(progress.recent)
    metric = trial.target.metric
    curve = Curve(
        label="",
        steps=np.array([one.step for one in recent], dtype=np.int64),
        times_s=np.array([one.submission_time_s for one in recent], dtype=np.float64),
        values=np.array([one.metrics.get(metric, math.nan) for one in recent], dtype=np.float64),
        target=trial.target,
    )
    from_last_s = seconds_to_target(curve)
    if from_last_s is None:
        return None
    left_s = recent[-1].submission_time_s + from_last_s - progress.submission_time_s
    limit = nearest_limit(trial, progress)
    return max(0.0, left_s) if limit is None or left_s <= limit[1] else None


def outlook(trial: TrialSpec, progress: Progress) -> list[str]:
    """Return what a line about a running trial says: how long a phase lasts, or loss, speed, and what is left."""
    if progress.phase in _NOT_TRAINING:
        return [f"for {time.monotonic() - progress.phase_began_s:.0f} s"]
    parts = []
    if progress.loss is not None:
        parts.append(f"training loss {progress.loss:.4g}")
    if progress.steps_per_s:
        parts.append(f"{progress.steps_per_s:.1f} steps/s")
    if (limit := nearest_limit(trial, progress)) is not None:
        parts.append(f"{limit[0]} in {duration(limit[1])}")
    if (target_s := seconds_left_to_target(trial, progress)) is not None:
        # Where the curve should have passed it already, only an evaluation can tell.
        parts.append(f"target in about {duration(target_s)}" if target_s else "target at the next evaluation, it seems")
    return parts


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(8.4), duration(125), duration(7500)
    ('8 s', '2:05 min', '2:05 h')
    """
    minute, hour = 60, 3600
    if seconds < minute:
        return f"{seconds:.0f} s"
    if seconds < hour:
        return f"{int(seconds) // minute}:{int(seconds) % minute:02d} min"
    return f"{int(seconds) // hour}:{int(seconds) % hour // minute:02d} h"
