"""Tables of the page as HTML: readable without a script; with it they sort, filter and can be copied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from perfbench.scoring.board import Board, Cell
from perfbench.scoring.style import COLOURS, DARK_COLOURS, DASHES, MARKERS, Look, looks_of
from perfbench.scoring.tables import LEGEND, Table, cell_text, score_table, seconds_text
from perfbench.scoring.uncertainty import Interval, Uncertainty

_SIGNS = dict(zip(MARKERS, "●■◆▲▼✚✖★", strict=True))
_CIVIDIS = (
    (0, 34, 78),
    (34, 59, 108),
    (75, 86, 112),
    (112, 113, 115),
    (150, 144, 120),
    (194, 178, 106),
    (254, 232, 56),
)
"""Dark is fast, with any colour vision and in grey. Source: Nuñez, Anderton and Renslow (2018), seven colours."""
_MIDDLE = 0.1791
"""Luminance at which black and white text have the same contrast, 4.58."""
_UNITS = (("seconds", "seconds"), ("share", "share of budget"), ("ratio", "x fastest"), ("interval", "interval"))
_LEGEND_OF_TIMES = LEGEND.split(". ", 1)[1]


def plain_table(table: Table, *, kind: str = "plain", first: str = "") -> str:
    """Return any table; columns that read as numbers are set to the right by the script that sorts them."""
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    return table_block(table.title, table.header, rows, caption=table.caption or first, kind=kind)


def table_block(title: str, header: Sequence[str], rows: str, *, caption: str = "", kind: str = "plain") -> str:
    """Return a table with the place for its tools, in a region that scrolls by itself.

    Args:
        title: What copies are named by.
        header: Names of the columns.
        rows: ``tr`` elements.
        caption: What a reader needs to know.
        kind: Class of the table.
    """
    head = "".join(f'<th scope="col">{breakable(name)}</th>' for name in header)
    said = f'<p class="soft">{escape(caption)}</p>' if caption else ""
    label = escape(title, quote=True)
    return (
        f'<div class="block" data-title="{label}"><div class="tools"></div>'
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">'
        f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{said}</div>'
    )


def breakable(name: str) -> str:
    """Return a name that may go on in another line after an underscore.

    >>> breakable("a_<b>")
    'a_<wbr>&lt;b&gt;'
    """
    return escape(name).replace("_", "_<wbr>")


def key_mark(look: Look) -> str:
    """Return a piece of the submission's line, with its marker."""
    dashes = " ".join(str(length) for length in DASHES[look.dash])
    return (
        f'<svg class="mark" viewBox="0 0 34 12" aria-hidden="true" style="--light:{COLOURS[look.colour]};'
        f'--dark:{DARK_COLOURS[look.colour]}"><path d="M0 6H34" stroke-dasharray="{dashes}"/>'
        f'<text x="17" y="10.5">{_SIGNS[MARKERS[look.marker]]}</text></svg>'
    )


def leaderboard(board: Board, uncertainty: Uncertainty) -> str:
    """Return the score table with a bar and its interval for every score, and how many things are missing."""
    table = score_table(board, uncertainty)
    looks = looks_of(board.submissions)
    missing = {name: sum(gap.submission == name for gap in board.gaps) for name in board.submissions}
    rows = []
    for name, look, (rank, _, score, interval, *others) in zip(board.submissions, looks, table.rows, strict=True):
        ranks = uncertainty.rank[name]
        spread = "" if ranks.low == ranks.high else f"{ranks.low:.0f} to {ranks.high:.0f}"
        bar = _bar(board.score[name], uncertainty.score[name])
        cells = (interval, spread, *others, *([_count(missing[name], "gap")] if any(missing.values()) else []))
        named = f'<th scope="row">{key_mark(look)} {escape(name)}</th><td class="score">{bar} {score}</td>'
        rows.append(f"<tr><td>{rank}</td>{named}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    rank, submission, score, level, *names = table.header
    header = [rank, submission, score, level, "rank could be", *names]
    header += ["missing"] if any(missing.values()) else []
    return table_block(table.title, header, "".join(rows), caption=table.caption, kind="leaderboard")


def _count(number: int, noun: str) -> str:
    return "" if not number else f"{number} {noun}{'s' if number > 1 else ''}"


def _bar(score: float, interval: Interval | None) -> str:
    whisker = ""
    if interval is not None:
        low, high = 120 * interval.low, 120 * interval.high
        whisker = f'<path d="M{low:.1f} 4v8M{high:.1f} 4v8M{low:.1f} 8H{high:.1f}"/>'
    return (
        f'<svg class="bar" viewBox="0 0 122 16" aria-hidden="true"><rect class="all" width="120" height="16"/>'
        f'<rect class="own" width="{120 * score:.1f}" height="16"/>{whisker}</svg>'
    )


def time_grid(board: Board, uncertainty: Uncertainty) -> str:
    """Return times to target by workload and submission, coloured by their share of the budget, in four units."""
    rows = []
    for workload, facts in board.benchmark.workloads.items():
        cells = "".join(
            _time_cell(
                board.cells[name, workload], uncertainty.time_s[name, workload], budget_s=facts.max_submission_time_s
            )
            for name in board.submissions
        )
        base = f' <small class="soft">variant of {breakable(facts.base)}</small>' if facts.base else ""
        rows.append(f'<tr><th scope="row">{breakable(workload)}{base}</th>{cells}</tr>')
    units = "".join(
        f'<button type="button" data-set="unit" data-value="{unit}">{text}</button>' for unit, text in _UNITS
    )
    chosen = f'<div class="choice units" role="group" aria-label="Unit of the times">{units}</div>'
    caption = (
        f"Medians over studies of the fastest trial. Dark is fast: the colour is the share of the workload's budget. "
        f"{_LEGEND_OF_TIMES}"
    )
    title = "Time to target"
    return chosen + table_block(title, ("workload", *board.submissions), "".join(rows), caption=caption, kind="grid")


def _time_cell(cell: Cell, interval: Interval | None, *, budget_s: float) -> str:
    if not math.isfinite(cell.time.time_s):
        return f'<td class="empty" title="{escape(cell.verdict.value)}">{escape(cell_text(cell))}</td>'
    share = cell.time.time_s / budget_s
    mark = cell_text(cell).removeprefix(seconds_text(cell.time.time_s))
    ends = [] if interval is None else ["∞" if math.isinf(end) else seconds_text(end) for end in interval]
    texts = {
        "seconds": seconds_text(cell.time.time_s),
        "share": f"{share:.3f}",
        "ratio": f"{cell.ratio:.3f}" if math.isfinite(cell.ratio) else "—",
        "interval": " to ".join(ends) or "—",
    }
    held = " ".join(f'data-{unit}="{escape(text + mark)}"' for unit, text in texts.items())
    studies = ", ".join(seconds_text(study.time_s) for study in cell.time.studies)
    told = escape(f"{cell.verdict.value}; studies: {studies} s")
    return f'<td {held} title="{told}" style="{fill(share)}">{escape(texts["seconds"] + mark)}</td>'


def pair_grid(board: Board, uncertainty: Uncertainty) -> str:
    """Return, for every pair, in what share of bootstrap samples the row scores higher than the column."""
    looks = dict(zip(board.submissions, looks_of(board.submissions), strict=True))
    rows = []
    for name in board.submissions:
        cells = []
        for other in board.submissions:
            share = uncertainty.scores_higher.get((name, other))
            cells.append(
                f'<td style="{fill(1 - share)}">{share:.2f}</td>'
                if share is not None
                else '<td class="empty" title="not repeated on a workload that both ran">—</td>'
                if name != other
                else '<td class="empty"></td>'
            )
        rows.append(f'<tr><th scope="row">{key_mark(looks[name])} {breakable(name)}</th>{"".join(cells)}</tr>')
    caption = (
        "Share of bootstrap samples over studies in which the row scores higher than the column. "
        "Dark is almost certain; near 0.5 the studies do not tell."
    )
    header = ("submission", *board.submissions)
    return table_block("Who scores higher", header, "".join(rows), caption=caption, kind="grid")


def fill(share: float) -> str:
    """Return a cell's colours: dark for 0, light for 1, its text black or white, whichever has more contrast.

    >>> fill(0.0), fill(1.0)
    ('background:#00224e;color:#fff', 'background:#fee838;color:#000')
    """
    place = min(1.0, max(0.0, share)) * (len(_CIVIDIS) - 1)
    index = min(len(_CIVIDIS) - 2, int(place))
    low, high = _CIVIDIS[index], _CIVIDIS[index + 1]
    mixed = [round(start + (end - start) * (place - index)) for start, end in zip(low, high, strict=True)]
    red, green, blue = (((one / 255 + 0.055) / 1.055) ** 2.4 for one in mixed)
    ink = "#000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > _MIDDLE else "#fff"
    return f"background:#{bytes(mixed).hex()};color:{ink}"
