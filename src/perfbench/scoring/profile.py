"""Times to ratios, ratios to profile, profile to score. Arrays only; the last two axes are submission, workload.

Any leading axes are carried along, so that a thousand bootstrap samples are scored in one call.

Source: Dolan and Moré (2002) for the profile; Dahl et al. (2023), section 4, for the benchmark score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import Floats

Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns of an array of times are base workloads, and which variants they must reach."""

    workloads: tuple[str, ...]
    base_columns: tuple[int, ...]
    held_out: tuple[tuple[int, int], ...]
    """Pairs (column of the variant, column of its base); empty where the rules require none."""

    @classmethod
    def of(cls, benchmark: Benchmark, *, without: str | None = None) -> Layout:
        """Return the layout of a benchmark's workloads, optionally without a base workload and its variants."""
        names = tuple(benchmark.workloads)
        bases = tuple(names.index(name) for name in benchmark.base_workloads() if name != without)
        pairs = [
            (names.index(name), names.index(workload.base))
            for name, workload in benchmark.workloads.items()
            if workload.base is not None and benchmark.scoring.held_out_required
        ]
        return cls(names, bases, tuple(pairs))


class Qualified(NamedTuple):
    """Times after the rules, and which rule took each time away."""

    times_s: Floats
    held_out_missed: Booleans
    too_slow: Booleans


def qualify(times_s: Floats, layout: Layout, *, max_ratio_to_fastest: float) -> Qualified:
    """Apply the rules that turn a measured time into "not reached", in their order.

    1. A variant counts only where its base workload was reached.
    2. A time above ``max_ratio_to_fastest`` times the fastest of its workload does not count.
    3. A base workload counts only where all of its required variants still do.

    >>> layout = Layout(("w", "w_variant"), (0,), ((1, 0),))
    >>> times = np.array([[10.0, 5.0], [20.0, np.inf], [50.0, 6.0]])
    >>> qualify(times, layout, max_ratio_to_fastest=4.0).times_s[:, 0].tolist()
    [10.0, inf, inf]
    """
    after = times_s.copy()
    for variant, base in layout.held_out:
        after[..., variant] = np.where(np.isfinite(after[..., base]), after[..., variant], np.inf)
    fastest = after.min(axis=-2, keepdims=True)
    too_slow = np.isfinite(after) & (after > max_ratio_to_fastest * fastest)
    after[too_slow] = np.inf
    held_out_missed = np.zeros(after.shape, dtype=np.bool_)
    for variant, base in layout.held_out:
        held_out_missed[..., base] |= np.isfinite(after[..., base]) & ~np.isfinite(after[..., variant])
    after[held_out_missed] = np.inf
    return Qualified(after, held_out_missed, too_slow)


def ratios_to_fastest(times_s: Floats) -> Floats:
    """Divide by the fastest submission of each workload; infinite where nobody reached it.

    >>> ratios_to_fastest(np.array([[10.0, np.inf], [20.0, np.inf]])).tolist()
    [[1.0, inf], [2.0, inf]]
    """
    fastest = times_s.min(axis=-2, keepdims=True)
    ratios = np.full(times_s.shape, np.inf)
    np.divide(times_s, fastest, out=ratios, where=np.isfinite(times_s) & (fastest > 0))
    # Zero seconds divided by zero seconds: the fastest is the fastest, whatever the clock's resolution.
    ratios[np.isfinite(times_s) & (times_s == fastest)] = 1.0
    return ratios


def profile(ratios: Floats, taus: Floats) -> Floats:
    """Return the share of workloads within each factor of the fastest: axes submission, tau.

    >>> profile(np.array([[1.0, 3.0]]), np.array([1.0, 2.0, 3.0])).tolist()
    [[0.5, 0.5, 1.0]]
    """
    share: Floats = (ratios[..., :, None] <= taus).mean(axis=-2)
    return share


def exact_score(ratios: Floats, *, tau_max: float) -> Floats:
    """Integrate the profile, a step function, from 1 to ``tau_max`` and divide by the length.

    >>> exact_score(np.array([[1.0, 2.5, np.inf]]), tau_max=4.0).round(6).tolist()
    [0.5]
    """
    score: Floats = np.clip(tau_max - ratios, 0.0, None).mean(axis=-1) / (tau_max - 1.0)
    return score


def grid_score(ratios: Floats, *, tau_max: float, num_points: int) -> Floats:
    """Integrate by trapezoids on an even grid, as published boards did; biased by up to half a grid step.

    >>> grid_score(np.array([[1.0, 1.0]]), tau_max=4.0, num_points=100).round(6).tolist()
    [1.0]
    """
    taus = np.linspace(1.0, tau_max, num_points)
    shares = profile(ratios, taus)
    area = ((shares[..., 1:] + shares[..., :-1]) / 2 * np.diff(taus)).sum(axis=-1)
    score: Floats = area / (tau_max - 1.0)
    return score


def scores(times_s: Floats, layout: Layout, benchmark: Benchmark) -> Floats:
    """Score measured times: rules, ratios, integral. Leading axes are carried along."""
    rule = benchmark.scoring
    counted = qualify(times_s, layout, max_ratio_to_fastest=rule.max_ratio_to_fastest).times_s
    ratios = ratios_to_fastest(counted[..., layout.base_columns])
    if rule.integration == "grid":
        return grid_score(ratios, tau_max=rule.tau_max, num_points=rule.grid_points)
    return exact_score(ratios, tau_max=rule.tau_max)
