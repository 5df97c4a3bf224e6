"""What a trial's numbers and a trainer's words say: the best metric, a loss that is none, a device that differs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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
