"""A board as tables, and tables as Markdown, CSV and LaTeX. Numbers are rounded here and nowhere else."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perfbench.results.trials import Floats, TrialLog
from perfbench.scoring.board import Board, Cell, Verdict
from perfbench.scoring.compare import Comparison, compare_all
from perfbench.scoring.states import TrialState
from perfbench.scoring.target import TrialEnd
from perfbench.scoring.uncertainty import Interval, Uncertainty
from perfbench.spec.workload import Direction

_MARKS = {
    Verdict.COUNTED: "",
    Verdict.MISSED: "—",
    Verdict.TOO_SLOW: "†",
    Verdict.HELD_OUT_MISSED: "‡",
    Verdict.BASE_MISSED: "‡",
    Verdict.NOT_RUN: "not run",
}
PROVISIONAL_MARK = "…"
LEGEND = (
    "Times are medians over studies of the fastest trial, in seconds of submission time. "
    "—: target not reached; †: reached, but too far behind the fastest to count; "
    "‡: reached, but its held-out variant (or, of a variant, its base workload) was not."
)
PROVISIONAL_LEGEND = f" {PROVISIONAL_MARK}: provisional, a trial of it is not over."


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns; the first columns name the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    num_names: int = 1
    """Columns that name the row: where a table is split, each part has them."""


def score_table(board: Board, uncertainty: Uncertainty | None = None) -> Table:
    """Return rank, score and on how much it rests."""
    bases = board.benchmark.base_workloads()
    is_attested = any(board.attestations.values())
    rows = []
    for name in board.submissions:
        cells = [board.cells[name, workload] for workload in bases]
        counted = sum(cell.verdict is Verdict.COUNTED for cell in cells)
        studies = [len(cell.time.studies) for cell in cells]
        interval = uncertainty.score[name] if uncertainty else None
        row = [
            str(1 + sum(board.score[other] > board.score[name] for other in board.submissions)),
            name,
            f"{board.score[name]:.4f}",
            _interval(interval, "{:.3f}".format),
            f"{counted} of {len(bases)}",
            str(min(studies)) if min(studies) == max(studies) else f"{min(studies)} to {max(studies)}",
        ]
        rows.append((*row, board.attestations[name]) if is_attested else tuple(row))
    level = f"{uncertainty.level:.0%} interval" if uncertainty else "interval"
    header: tuple[str, ...] = ("rank", "submission", "score", level, "workloads counted", "studies")
    header += ("attested",) if is_attested else ()
    provisional = " (provisional)" if board.is_provisional else ""
    title = f"Leaderboard: {board.benchmark.name}{provisional}"
    return Table(title, header, tuple(rows), "; ".join(board.notes), num_names=2)


def time_table(board: Board, uncertainty: Uncertainty | None = None) -> Table:
    """Return the median time to target of every submission on every workload, with the rules' verdict."""
    workloads = tuple(board.benchmark.workloads)
    legend = LEGEND + (PROVISIONAL_LEGEND if board.is_provisional else "")

    def text(name: str, workload: str) -> str:
        interval = uncertainty.time_s.get((name, workload)) if uncertainty else None
        return cell_text(board.cells[name, workload], interval)

    if len(workloads) >= len(board.submissions):  # the shorter side goes across the page
        rows = tuple((workload, *(text(name, workload) for name in board.submissions)) for workload in workloads)
        return Table("Time to target (s)", ("workload", *board.submissions), rows, legend)
    rows = tuple((name, *(text(name, workload) for workload in workloads)) for name in board.submissions)
    return Table("Time to target (s)", ("submission", *workloads), rows, legend)


def comparison_table(board: Board) -> Table:
    """Return wins, losses and mean speed-up for every pair."""
    rows = tuple(_comparison_row(comparison) for comparison in compare_all(board))
    header = ("submission", "against", "wins", "losses", "ties", "mean speed-up", "both reached")
    return Table("Pairs", header, rows, "Speed-up: geometric mean over the workloads that both reached.")


def trial_table(board: Board, logs: Sequence[TrialLog] = ()) -> Table:
    """Return one row per trial that has run, also where its study was left out.

    There is a column for each hyperparameter of the trials whose log is given.
    """
    points = {log.key: log.hyperparameters or {} for log in logs}
    tuned = list(dict.fromkeys(name for point in points.values() for name in point))
    rows = []
    for key, state in sorted(board.states.items()):
        end = board.ends.get(key)
        numbers = ("inf", "") if end is None else (f"{end.time_s:.6f}", _index(end))
        names = (key.submission, key.workload, str(key.study), str(key.trial))
        values = (str(points.get(key, {}).get(name, "")) for name in tuned)
        rows.append((*names, state.value, "no" if end is None else "yes", *numbers, *values))
    header = ("submission", "workload", "study", "trial", "state", "counts", "time_to_target_s", "evaluation_index")
    return Table("Trials", (*header, *(f"hyperparameters/{name}" for name in tuned)), tuple(rows))


def _index(end: TrialEnd) -> str:
    return "" if end.evaluation_index is None else str(end.evaluation_index)


def state_counts(board: Board) -> dict[tuple[str, str], Counter[TrialState]]:
    """Return the number of trials in each state, by submission and workload."""
    counts: dict[tuple[str, str], Counter[TrialState]] = defaultdict(Counter)
    for key, state in board.states.items():
        counts[key.submission, key.workload][state] += 1
    return counts


def state_table(board: Board) -> Table:
    """Return how many trials of each submission on each workload are in which state."""
    counts = state_counts(board)
    states = [state for state in TrialState if any(count[state] for count in counts.values())]
    rows = tuple(
        (submission, workload, *(str(found[state] or "") for state in states))
        for (submission, workload), found in sorted(counts.items())
    )
    return Table("States of trials", ("submission", "workload", *(state.value for state in states)), rows)


def has_open_ends(board: Board) -> bool:
    """Tell whether a trial has an end that is no measurement of the algorithm, or none."""
    return any(state in (TrialState.CRASHED, TrialState.UNFINISHED) for state in board.states.values())


def closest_table(board: Board, logs: Sequence[TrialLog]) -> Table:
    """Return how each trial ended and how close it came: for a few trials, which a person looks at one by one."""
    rows = []
    for log in sorted(logs, key=lambda log: log.key):
        if log.key not in board.ends:
            continue
        target = board.benchmark.workloads[log.key.workload].target
        finite = log.target_metric[np.isfinite(log.target_metric)]
        best = _best(finite, target.direction)
        end = board.ends[log.key]
        outcome = board.states[log.key].value
        names = (log.key.submission, log.key.workload, str(log.key.study), str(log.key.trial))
        numbers = (seconds_text(end.time_s), f"{best:.5g}", f"{target.threshold:.5g}")
        rows.append((*names, outcome, *numbers))
    header = ("submission", "workload", "study", "trial", "state", "time (s)", "best", "target")
    return Table("Trials", header, tuple(rows), "Best: the target's metric at the best evaluation.")


def cell_text(cell: Cell, interval: Interval | None = None) -> str:
    """Return a cell for people: time, interval, and the mark of the rule that took it away."""
    mark = _MARKS[cell.verdict] + (PROVISIONAL_MARK if cell.time.num_unfinished else "")
    if not math.isfinite(cell.time.time_s):
        return mark
    shown = _interval(interval, seconds_text)
    return " ".join(part for part in (seconds_text(cell.time.time_s) + mark, shown) if part)


def seconds_text(seconds: float) -> str:
    """Return seconds with the digits that mean something.

    >>> seconds_text(41001.4), seconds_text(12.345), seconds_text(math.inf)
    ('41,001', '12.3', '—')
    """
    if not math.isfinite(seconds):
        return "—"
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"  # noqa: PLR2004 - a matter of layout


def _best(values: Floats, direction: Direction) -> float:
    if not len(values):
        return math.nan
    return float(values.min() if direction is Direction.MINIMIZE else values.max())


def _interval(interval: Interval | None, render: Callable[[float], str]) -> str:
    if interval is None:
        return ""
    low, high = ("∞" if math.isinf(end) else render(end) for end in interval)
    return f"[{low}, {high}]"


def _comparison_row(comparison: Comparison) -> tuple[str, ...]:
    speed_up = comparison.mean_speed_up
    return (
        comparison.submission,
        comparison.other,
        str(comparison.wins),
        str(comparison.losses),
        str(comparison.ties),
        f"{speed_up:.3f}" if math.isfinite(speed_up) else "—",
        str(len(comparison.speed_ups)),
    )


def as_markdown(table: Table) -> str:
    """Return a table that is readable as text too."""
    cells = [[markdown_text(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(table.header))]
    lines = [_markdown_row(row, widths) for row in cells]
    lines.insert(1, _markdown_row(["-" * width for width in widths], widths))
    caption = f"\n\n{markdown_text(table.caption)}" if table.caption else ""
    return f"## {markdown_text(table.title)}\n\n" + "\n".join(lines) + caption + "\n"


def markdown_text(text: str) -> str:
    """Escape what begins an element, a link, code or another column; the rest stays readable as text."""
    return text.translate(_MARKDOWN).replace("](", "]\\(")


def _markdown_row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def as_csv(table: Table) -> str:
    """Return comma-separated values with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows(table.rows)
    return text.getvalue()


_MARKDOWN = str.maketrans({
    "\\": "\\\\", "|": "\\|", "`": "\\`", "*": "\\*", "<": "&lt;", ">": "&gt;", "&": "&amp;",
})  # fmt: skip
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "—": "---", "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "∞": r"$\infty$",
})  # fmt: skip


def as_latex(table: Table) -> str:
    """Return a ``tabular`` inside a ``table``; it needs the package booktabs."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"

    body = "\n".join(line(row) for row in table.rows)
    caption = f"{table.title}. {table.caption}".strip().translate(_LATEX)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}\n\\toprule\n{line(table.header)}\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n\\caption{{{caption}}}\n\\end{{table}}\n"
    )
