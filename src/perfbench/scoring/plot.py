"""Pictures of a board. The only module that knows matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from perfbench.scoring.board import Board

Dashes = str | tuple[int, tuple[float, ...]]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Told apart with any colour vision. Source: Okabe and Ito (2008), yellow left out: it is invisible on white."""
_DOTS_PER_INCH = 160
_DASHES: tuple[Dashes, ...] = ("-", (0, (5.0, 2.0)), (0, (1.0, 1.5)), (0, (6.0, 2.0, 1.0, 2.0)))


def line_style(index: int) -> tuple[str, Dashes]:
    """Return colour and dashes: no two of the first 32 lines share both."""
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


def profile_figure(board: Board) -> Figure:
    """Draw the performance profiles of a board."""
    rule = board.benchmark.scoring
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    ratios = board.ratios()
    for row, name in enumerate(board.submissions):
        factors, shares = profile_steps(ratios[row].tolist(), tau_max=rule.tau_max)
        colour, dashes = line_style(row)
        label = f"{name}  {board.score[name]:.3f}"
        axes.step(factors, shares, where="post", color=colour, linestyle=dashes, linewidth=1.8, label=label)
    axes.set(
        xlim=(1.0, rule.tau_max),
        ylim=(-0.02, 1.02),
        xlabel="factor of the fastest submission's time",
        ylabel="share of workloads",
        title=board.benchmark.name,
    )
    axes.set_yticks(np.linspace(0.0, 1.0, 6))
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="submission and score", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def as_png(figure: Figure) -> bytes:
    """Return the figure as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def as_svg(figure: Figure) -> bytes:
    """Return the figure as scalable graphics; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "perfbench", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
