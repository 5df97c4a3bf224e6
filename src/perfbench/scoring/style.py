"""How submissions look in every figure: colours and dashes that can be told apart, and the corners of a profile."""

from __future__ import annotations

from collections.abc import Sequence

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Told apart with any colour vision. Source: Okabe and Ito (2008), yellow left out: it is invisible on white."""
_DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 2.0), (1.0, 1.5), (6.0, 2.0, 1.0, 2.0))
PHASE_COLOURS = {
    "scored": "#0072B2",
    "data wait": "#D55E00",
    "eval": "#E69F00",
    "compile": "#CC79A7",
    "checkpoint": "#009E73",
    "logging": "#56B4E9",
    "idle": "#BBBBBB",
}


def line_style(index: int) -> tuple[str, tuple[float, ...]]:
    """Return colour and dashes (in line widths): no two of the first 32 lines share both."""
    return COLOURS[index % len(COLOURS)], _DASHES[index // len(COLOURS) % len(_DASHES)]


def profile_steps(ratios: Sequence[float], *, tau_max: float) -> tuple[list[float], list[float]]:
    """Return the corners of a performance profile: factors and the shares from there on.

    >>> profile_steps([1.0, 2.0, 2.5, float("inf")], tau_max=4.0)
    ([1.0, 2.0, 2.5, 4.0], [0.25, 0.5, 0.75, 0.75])
    """
    factors, shares = [1.0], [sum(ratio <= 1.0 for ratio in ratios) / len(ratios)]
    for ratio in sorted({ratio for ratio in ratios if 1.0 < ratio <= tau_max}):
        factors.append(ratio)
        shares.append(sum(other <= ratio for other in ratios) / len(ratios))
    return [*factors, tau_max], [*shares, shares[-1]]
