"""One self-contained page for readers of results: figures to explore, tables to check. It loads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from perfbench.results.trials import Complaint, RecordedTrial, TrialLog
from perfbench.scoring import report_notes, report_tables
from perfbench.scoring.accounting import eval_share_table, eval_shares, time_accounting, too_much_evaluation, trials_of
from perfbench.scoring.board import Board
from perfbench.scoring.page_parts import KEYS_OF_CHARTS, chart, curve_choices, header, key
from perfbench.scoring.page_shell import self_contained
from perfbench.scoring.report_data import page_data
from perfbench.scoring.report_tables import plain_table
from perfbench.scoring.sensitivity import sensitivity, sensitivity_table
from perfbench.scoring.tables import Table, comparison_table, has_open_ends, state_table
from perfbench.scoring.uncertainty import Uncertainty

_LAST_PLACES = (("environment", "Environment"), ("records", "Records"))
_ABOUT_PROFILES = (
    "The share of workloads that a submission trains within a factor of the fastest submission's time. Higher and "
    "further left is better; the score is the area under the line. With three submissions or fewer, their intervals "
    "over resampled studies are shaded."
)


@dataclass(frozen=True, slots=True)
class SmallerSection:
    """Smaller boards for the page."""

    tables: Sequence[Table]
    front: Mapping[str, Any]
    """What the script draws: ``front_data``."""


@dataclass(frozen=True, slots=True)
class ReportedBoard:
    """A board and what its page is made from."""

    board: Board
    uncertainty: Uncertainty
    logs: Sequence[TrialLog]
    smaller: SmallerSection | None = None
    """What boards of fewer workloads, studies and trials are worth; ``None`` with too few submissions to ask."""


def report_page(
    boards: Sequence[ReportedBoard],
    recorded: Sequence[RecordedTrial],
    complaints: Sequence[Complaint],
    *,
    folder: Path,
) -> str:
    """Return the page as HTML.

    Args:
        boards: One section each.
        recorded: Trial folders that they were made from; none where they are published logs.
        complaints: What was wrong on disk.
        folder: Where the page goes: links to trials are relative to it.
    """
    owned = [trials_of(one.logs, recorded) for one in boards]
    data = [
        page_data(one.board, one.uncertainty, one.logs, own, folder)
        | ({"front": one.smaller.front} if one.smaller else {})
        for one, own in zip(boards, owned, strict=True)
    ]
    names = [one.board.benchmark.name for one in boards]
    places = [*((f"board-{index}", name) for index, name in enumerate(names)), *_LAST_PLACES]
    links = "".join(f'<a href="#{place}">{escape(name)}</a>' for place, name in places)
    sections = "".join(_section(index, one, own) for index, (one, own) in enumerate(zip(boards, owned, strict=True)))
    body = f"""{header("How fast training algorithms train", links)}
<main>
{sections}
<section><h2 id="environment">Environment</h2>
{report_notes.environment(recorded)}</section>
<section><h2 id="records">Records</h2>
{report_notes.complaints_by_kind(complaints)}</section>
{KEYS_OF_CHARTS}
</main>"""
    return self_contained(f"perfbench: {' · '.join(names)}", body, data)


def _section(index: int, one: ReportedBoard, recorded: Sequence[RecordedTrial]) -> str:
    board, uncertainty = one.board, one.uncertainty
    shares = eval_shares(board, recorded)
    return f"""<section id="board-{index}">
<h2>{escape(board.benchmark.name)}{" (provisional)" if board.is_provisional else ""}</h2>
<p class="lead">{report_notes.headline(board, uncertainty)}</p>
{report_notes.facts(index, board, len(board.ends), recorded)}
{report_notes.how_to_read(board)}
<h3>Leaderboard</h3>
{report_tables.leaderboard(board, uncertainty)}
<div>
{key(board.submissions, board.submissions)}
<h3>Performance profiles</h3>
{chart(index, "profile", "Performance profiles", _ABOUT_PROFILES)}
<h3>Time to target</h3>
{report_tables.time_grid(board, uncertainty)}
<h3>Training curves</h3>
{_curves(index, board)}
{_accounting(index, board, recorded)}
</div>
{_pairs(one)}
{_smaller(index, one.smaller)}
{report_notes.gaps(index, board.gaps)}
<h3>More tables</h3>
{"".join(_folded(table) for table in _more_tables(one, shares))}
{_trials(index, board)}
</section>
"""


def _curves(index: int, board: Board) -> str:
    drawn = {key.workload for key in board.ends}
    panels = "".join(
        chart(index, "curves", f"Training curves on {name}", workload=name)
        for name in board.benchmark.workloads
        if name in drawn
    )
    return (
        f'{curve_choices()}<p class="soft">The target\'s metric of one trial per study: the one that '
        "counts, or the closest one where none reached the target. A marker is where the target was reached. Drag to "
        f'enlarge, double-click to go back.</p><div class="panels">{panels}</div>'
    )


def _pairs(one: ReportedBoard) -> str:
    if len(one.board.submissions) == 1:
        return ""
    return f"<h3>Who scores higher</h3>{report_tables.pair_grid(one.board, one.uncertainty)}"


def _accounting(index: int, board: Board, recorded: Sequence[RecordedTrial]) -> str:
    if not recorded:
        return ""
    if not time_accounting(board, recorded):
        return '<p class="soft">No finished trial of these has a record of its phases.</p>'
    warning = too_much_evaluation(eval_shares(board, recorded))
    caption = (
        "Where the wall time of the trials went, in the mean. Only scored time counts; waiting for data is part of it."
    )
    told = f'<p class="warnings">{escape(warning)}</p>' if warning else ""
    return f"<h3>Time accounting</h3>{chart(index, 'accounting', 'Time accounting', caption)}{told}"


def _smaller(index: int, section: SmallerSection | None) -> str:
    """Return the front of cost against agreement, and its tables."""
    if section is None:
        return ""
    first, *others = section.tables
    folded = "".join(_folded(one) for one in others)
    return f"<h3>Smaller boards</h3>{chart(index, 'front', 'Agreement against cost')}{plain_table(first)}{folded}"


def _more_tables(one: ReportedBoard, shares: Mapping[str, float]) -> list[Table]:
    board = one.board
    tables = []
    if len(board.submissions) > 1:
        tables += [comparison_table(board), sensitivity_table(board, sensitivity(board, one.logs))]
    if has_open_ends(board):
        tables.append(state_table(board))
    if shares:
        tables.append(eval_share_table(shares))
    return tables


def _folded(table: Table) -> str:
    return f"<details><summary>{escape(table.title)}</summary>{plain_table(table)}</details>"


def _trials(index: int, board: Board) -> str:
    """Return the place of the table of all trials, which the script fills: there are thousands."""
    statuses = Counter(state.value for state in board.states.values())
    counted = ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items()))
    return f'<details class="trials" data-board="{index}"><summary>Trials: {counted}</summary></details>'
