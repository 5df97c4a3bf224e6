"""What a trial's numbers and a trainer's words say: the best metric, a loss that is none, a stop without a reason."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from perfbench.engine.referee.link import TrainerEnded
from perfbench.engine.wire.messages import Go, Stopped
from perfbench.engine.wire.page import CHECKPOINT, EVALUATE, STOP
from perfbench.errors import LaunchError
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


def changed_switches(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Name what a trainer has switched while it trained: threads, precision, backend flags.

    >>> changed_switches({"threads": "1", "deterministic": "False"}, {"threads": "2", "deterministic": "False"})
    ('threads: 1 before, 2 at the end',)
    """
    return tuple(
        f"{name}: {value} before, {after[name]} at the end"
        for name, value in before.items()
        if after.get(name, value) != value
    )


def require_same_device(own: str, found: str) -> None:
    """Check that referee and trainer have found devices of one kind.

    Raises:
        LaunchError: If they have not: a sandbox may keep a device out of reach, and nobody meant a processor.
    """
    if found != own:
        raise LaunchError(
            f"the referee has found a device of kind {own}, the trainer one of kind {found}",
            where="isolation",
            hint="the sandbox does not let a trainer reach this machine's devices: use isolation=process",
        )


def require_reason(stopped: Stopped, go: Go, *, after_step: int, flags: int, traced: Collection[int]) -> None:
    """Check that a trainer stopped where it was to: what it did in a rest of its own choice would cost nothing.

    Args:
        stopped: What it says.
        go: What it was told.
        after_step: Where it was then.
        flags: What the referees have raised since.
        traced: Steps after which it stops for a trace.

    Raises:
        TrainerEnded: If nobody has asked for the stop, or for the evaluation.
    """
    ends = stopped.is_complete or stopped.divergence is not None
    if stopped.is_prepared:
        has_reason = bool(flags & EVALUATE) or stopped.step == go.stop_at_step
    else:
        has_reason = bool(flags & (CHECKPOINT | STOP)) or stopped.step in traced
    if stopped.step < after_step + (not ends) or not (ends or has_reason):
        what = "asks for an evaluation that is not due" if stopped.is_prepared else "has stopped unasked"
        raise TrainerEnded(f"the trainer {what} (step {stopped.step}, after {after_step})")
