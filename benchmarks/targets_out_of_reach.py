"""Trials that no evaluation ends: for benchmarks that train on until they have seen enough."""

from __future__ import annotations

from perfbench.compose import compose_workload
from perfbench.spec.workload import Direction, ScaleName, TargetKind

_BEYOND_ANY_METRIC = 1e9


def never_reached(workload: str) -> str:
    """Return the override that moves a workload's smoke target to where no metric comes, whichever way is better."""
    target = compose_workload(workload, scale=ScaleName.MINI.value).targets[TargetKind.SMOKE]
    sign = -1 if target.direction is Direction.MINIMIZE else 1
    return f"workload.targets.smoke.threshold={sign * _BEYOND_ANY_METRIC}"
