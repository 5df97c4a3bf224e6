"""Pictures of a board, for papers and for pages without a script. Only ``cli/pictures.py`` knows matplotlib too."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from perfbench.errors import ConfigError
from perfbench.results.files import atomic_file
from perfbench.scoring.board import Board
from perfbench.scoring.curves import Curve
from perfbench.scoring.report_data import value_limits
from perfbench.scoring.style import COLOURS, DASHES, MARKERS, PHASE_COLOURS, Look, looks_of, profile_steps
from perfbench.scoring.subset_front import SubsetAnalysis
from perfbench.scoring.tables import cell_text

mpl.rcParams["text.parse_math"] = False  # a dollar sign in a name begins no formula
_DOTS_PER_INCH = 160
_COLUMNS = 3
_MARKERS = dict(zip(MARKERS, "osD^vPX*", strict=True))
_PERCENTS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def profile_figure(board: Board) -> Figure:
    """Draw the performance profiles of a board."""
    rule = board.benchmark.scoring
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    ratios = board.ratios()
    for row, (name, look) in enumerate(zip(board.submissions, looks_of(board.submissions), strict=True)):
        factors, shares = profile_steps(ratios[row].tolist(), tau_max=rule.tau_max)
        label = f"{name}  {board.score[name]:.3f}"
        axes.step(factors, shares, where="post", linewidth=1.8, label=label, markersize=5, **line_style(look))
    axes.set(
        xlim=(1.0, rule.tau_max),
        ylim=(-0.02, 1.02),
        xlabel="factor of the fastest submission's time",
        ylabel="share of workloads",
        title=board.benchmark.name,
    )
    axes.set_yticks(np.linspace(0.0, 1.0, 6))
    _plain(axes)
    axes.legend(title="submission and score", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def front_figure(analysis: SubsetAnalysis) -> Figure:
    """Draw agreement against cost: every subset, the front in sample, what it is worth validated, and chance."""
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    cost = 100 * analysis.subsets.cost
    at = [100 * float(analysis.subsets.cost[row.subset]) for row in analysis.rows]
    axes.plot(cost, analysis.in_sample, ".", color="#bbbbbb", markersize=3, label="every subset, in sample")
    own = [row.in_sample.value for row in analysis.rows]
    axes.step(at, own, where="post", color=COLOURS[0], linewidth=1.8, label="best choice, in sample")
    validated = [row.validated.value for row in analysis.rows]
    low, high = ([getattr(row.validated, end) for row in analysis.rows] for end in ("low", "high"))
    axes.vlines(at, low, high, color=COLOURS[1], linewidth=0.9)
    label = "best choice, validated (interval over studies and submissions)"
    axes.plot(at, validated, "o-", color=COLOURS[1], linewidth=1.2, markersize=4, label=label)
    chance = [row.chance.mean for row in analysis.rows]
    axes.plot(at, chance, color="black", linestyle=":", linewidth=1.2, label="by chance, validated")
    axes.axhline(analysis.repeated.value, color="#999999", linewidth=0.8)
    axes.annotate("whole board, repeated", (cost[-1], analysis.repeated.value), ha="right", va="bottom", fontsize=8)
    axes.set(
        xscale="log", xlabel="share of the whole benchmark's budget (%)", ylabel="Kendall's tau with the whole board"
    )
    axes.set_xticks([one for one in _PERCENTS if one >= cost[0]], [f"{one:g}" for one in _PERCENTS if one >= cost[0]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(title=analysis.times.benchmark.name, ylim=(min(-0.05, float(analysis.in_sample.min()) - 0.05), 1.03))
    _plain(axes)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return figure


def heat_figure(board: Board) -> Figure:
    """Draw times to target as shares of the budget: workload by submission."""
    workloads = tuple(board.benchmark.workloads)
    figure = Figure(figsize=(2.5 + 0.95 * len(board.submissions), 1.5 + 0.42 * len(workloads)), layout="constrained")
    axes = figure.add_subplot()
    shares = np.full((len(workloads), len(board.submissions)), np.nan)
    for i, workload in enumerate(workloads):
        for j, name in enumerate(board.submissions):
            cell = board.cells[name, workload]
            share = cell.time.time_s / board.benchmark.workloads[workload].max_submission_time_s
            shares[i, j] = share if math.isfinite(share) else np.nan
            mark = cell_text(cell)
            text = f"{share:.2f}{mark[-1] if mark[-1] in '†‡' else ''}" if math.isfinite(share) else mark
            colour = "white" if math.isfinite(share) and share < 0.5 else "black"  # noqa: PLR2004 - half of the map
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    image = axes.imshow(shares, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(board.submissions)), board.submissions, rotation=35, ha="right")
    axes.set_yticks(range(len(workloads)), workloads)
    figure.colorbar(image, ax=axes, label="time to target as a share of the budget", fraction=0.04)
    return figure


def curves_figure(board: Board, curves: Sequence[dict[str, Any]]) -> Figure:
    """Draw metric against submission time, one panel per workload, with target and budget."""
    workloads = [name for name in board.benchmark.workloads if any(one["workload"] == name for one in curves)]
    looks = dict(zip(board.submissions, looks_of(board.submissions), strict=True))
    rows = max(1, math.ceil(len(workloads) / _COLUMNS))
    figure = Figure(figsize=(11.0, 0.6 + 2.6 * rows), layout="constrained")
    for number, name in enumerate(workloads):
        axes = figure.add_subplot(rows, _COLUMNS, number + 1)
        workload = board.benchmark.workloads[name]
        for curve in curves:
            if curve["workload"] == name:
                values = [math.nan if value is None else value for value in curve["values"]]
                reached = [] if curve["reached"] is None else [curve["reached"]]
                style = line_style(looks[curve["submission"]])
                axes.plot(curve["times_s"], values, linewidth=0.9, alpha=0.8, markersize=4, markevery=reached, **style)
        axes.axhline(workload.target.threshold, color="black", linewidth=0.8, linestyle=":")
        axes.axvline(workload.max_submission_time_s, color="black", linewidth=0.8, linestyle=":")
        limits = value_limits([one for one in curves if one["workload"] == name], workload.target)
        axes.set(title=name, ylim=limits, xlabel="submission time (s)", ylabel=workload.target.metric)
        _plain(axes)
    lines = [Line2D([], [], label=name, **line_style(look)) for name, look in looks.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(6, len(lines)), frameon=False)
    return figure


def accounting_figure(accounting: Sequence[dict[str, Any]]) -> Figure:
    """Draw where the wall time went: shares of the phases, a bar per submission and workload."""
    figure = Figure(figsize=(9.0, 1.2 + 0.34 * len(accounting)), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{one['submission']} · {one['workload']}" for one in accounting]
    left = np.zeros(len(accounting))
    for phase, colour in PHASE_COLOURS.items():
        shares = np.array([one["seconds"][phase] / (sum(one["seconds"].values()) or 1.0) for one in accounting])
        axes.barh(labels, shares, left=left, color=colour, label=phase)
        left += shares
    axes.invert_yaxis()
    axes.set(xlim=(0.0, 1.0), xlabel="share of wall time")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
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


def line_style(look: Look) -> dict[str, Any]:
    """Return a look in the words of matplotlib."""
    dashes = [length / 2 for length in DASHES[look.dash]]  # in widths of the line
    return {
        "color": COLOURS[look.colour],
        "linestyle": (0, dashes) if dashes else "-",
        "marker": _MARKERS[MARKERS[look.marker]],
    }


def _plain(axes: Axes) -> None:
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def trials_figure(curves: Sequence[Curve]) -> Figure:
    """Draw the target's metric of trials against the time on the clock and against steps, side by side."""
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    for number, label in enumerate(("submission time (s)", "steps")):
        axes = figure.add_subplot(1, 2, number + 1)
        for curve, look in zip(curves, looks_of([one.submission for one in curves]), strict=True):
            x = curve.steps if number else curve.times_s
            axes.plot(x, curve.values, linewidth=1.4, markersize=4, label=curve.label, **line_style(look))
        axes.axhline(curves[0].target.threshold, color="black", linewidth=0.8, linestyle=":")
        axes.set(xlabel=label, ylabel=curves[0].target.metric)
        _plain(axes)
        axes.legend(frameon=False)
    return figure


class Drawing:
    """A figure that notebooks show as a picture.

    Args:
        figure: Matplotlib's, to be changed at will.
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def save(self, path: str | Path) -> Path:
        """Write the figure; the ending (``.svg`` or ``.png``) chooses the format. Return the path.

        Raises:
            ConfigError: If the ending is another one, or the file cannot be written.
        """
        writers = {".svg": as_svg, ".png": as_png}
        target = Path(path).expanduser()
        if target.suffix not in writers:
            raise ConfigError(
                f"a figure cannot be {target.suffix or 'without an ending'}", where=str(path), hint="use .svg or .png"
            )
        try:
            with atomic_file(target) as file:
                file.write(writers[target.suffix](self.figure))
        except OSError as problem:
            raise ConfigError.of_file(problem, what="the figure cannot be written", where=str(target)) from None
        return target

    def _repr_png_(self) -> bytes:
        return as_png(self.figure)
