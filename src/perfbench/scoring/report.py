"""One self-contained page for readers of results: figures to explore, tables to check. It loads nothing."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from perfbench.results.trials import Complaint, RecordedTrial, TrialLog
from perfbench.scoring.accounting import eval_share_table, eval_shares, too_much_evaluation, trials_of
from perfbench.scoring.board import Board
from perfbench.scoring.report_data import page_data, status_of
from perfbench.scoring.sensitivity import sensitivity, sensitivity_table
from perfbench.scoring.tables import (
    Table,
    comparison_table,
    has_open_ends,
    score_table,
    seconds_text,
    state_table,
    time_table,
)
from perfbench.scoring.uncertainty import Interval, Uncertainty

_PARTS = Path(__file__).parent / "page"
_FIGURES = (
    ("profile", "Performance profiles", "How much of the benchmark a submission solves within a factor of the fastest "
     "submission's time. Higher and further left is better; the score is the area."),
    ("heat", "Time to target", "Median over studies as a share of the workload's budget: dark is fast. —: target not "
     "reached; †: reached, but too far behind the fastest to count; ‡: reached, but its held-out variant (or, of a "
     "variant, its base) was not."),
    ("curves", "Training curves", "The target's metric against submission time, one line per study: the trial that "
     "counts, or the closest one where none reached the target. Dots mark the target reached."),
    ("pairs", "Who scores higher", "Share of bootstrap samples over studies in which the row scores higher than the "
     "column. Dark: almost certain; near 0.5 the studies do not tell."),
    ("accounting", "Time accounting", "Where the wall time of the trials went. Only scored time counts; "
     "waiting for data is a part of it."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReportedBoard:
    """A board and what its page is made from."""

    board: Board
    uncertainty: Uncertainty
    logs: Sequence[TrialLog]


def report_page(
    boards: Sequence[ReportedBoard], recorded: Sequence[RecordedTrial], complaints: Sequence[Complaint]
) -> str:
    """Return the page as HTML."""
    owned = [trials_of(one.logs, recorded) for one in boards]
    data = [page_data(one.board, one.uncertainty, one.logs, own) for one, own in zip(boards, owned, strict=True)]
    sections = [_section(index, one, own) for index, (one, own) in enumerate(zip(boards, owned, strict=True))]
    num_trials = sum(len(one.board.ends) for one in boards)
    names = " · ".join(escape(one.board.benchmark.name) for one in boards)
    links = "".join(
        f'<a href="#board-{index}">{escape(one.board.benchmark.name)}</a>' for index, one in enumerate(boards)
    )
    # "</script>" in a string would end the element, and "<!--<script>" would keep it open; JSON may write "<" escaped.
    embedded = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>perfbench: {names}</title>
<style>
{_part("style.css")}</style>
</head>
<body>
<header>
<h1>How fast training algorithms train</h1>
<p class="soft">{num_trials} trials. Point at anything to read its numbers; choose submissions to show or hide them.</p>
<nav>{links}<a href="#environment">environment</a><a href="#records">records</a></nav>
</header>
<noscript><p class="warnings">The figures of this page need its script; the folder beside it has them as
pictures.</p></noscript>
{"".join(sections)}
<h2 id="environment">Environment</h2>
{_environment(recorded)}
<h2 id="records">Records</h2>
{_complaints(complaints)}
<div id="tip" role="status"></div>
<script type="application/json" id="data">{embedded}</script>
<script>
{_part("chart.js")}{_part("report.js").replace('"use strict";', "", 1)}</script>
</body>
</html>
"""


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _section(index: int, one: ReportedBoard, recorded: Sequence[RecordedTrial]) -> str:
    board = one.board
    figures = "".join(
        f'<h3>{title}</h3><figure><div class="{name} scroll"></div><figcaption>{caption}</figcaption></figure>'
        for name, title, caption in _FIGURES
        if (name != "pairs" or len(board.submissions) > 1) and (name != "accounting" or recorded)
    )
    tables = [time_table(board, one.uncertainty)]
    if len(board.submissions) > 1:
        tables += [comparison_table(board), sensitivity_table(board, sensitivity(board, one.logs))]
    if has_open_ends(board):
        tables.append(state_table(board))
    shares = eval_shares(board, recorded)
    if shares:
        tables.append(eval_share_table(shares))
    folded = "".join(f"<details><summary>{escape(table.title)}</summary>{_table(table)}</details>" for table in tables)
    hidden = "".join(
        f'<div class="{name}" hidden></div>' for name, *_ in _FIGURES if f'class="{name} scroll"' not in figures
    )
    return f"""<section id="board-{index}">
<h2>{escape(board.benchmark.name)}{" (provisional)" if board.is_provisional else ""}</h2>
{_warnings(board)}
{_leaderboard(board, one.uncertainty)}
<div class="key-of-submissions"></div>
{figures}{_evaluation_warning(shares)}{hidden}
<h3>Tables</h3>
{folded}
{_trials(index, board, recorded)}
</section>
"""


def _leaderboard(board: Board, uncertainty: Uncertainty) -> str:
    """Return the score table with a bar and its interval for every score."""
    table = score_table(board, uncertainty)
    rows = []
    for name, (rank, _, score, interval, *others) in zip(board.submissions, table.rows, strict=True):
        ranks = uncertainty.rank[name]
        spread = "" if ranks.low == ranks.high else f"{ranks.low:.0f} to {ranks.high:.0f}"
        cells = (score, interval, spread, *others)
        numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
        bar = _bar(board.score[name], uncertainty.score[name])
        rows.append(f'<tr><td class="number">{rank}</td><td>{escape(name)}</td><td>{bar}</td>{numbers}</tr>')
    _, _, score_name, level, *other_names = table.header
    names = (score_name, level, "rank could be", *other_names)
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    caption = f'<p class="soft">{escape(table.caption)}</p>' if table.caption else ""
    return (
        f'<div class="scroll"><table class="leaderboard"><thead><tr><th class="number">rank</th><th>submission</th>'
        f"<th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{caption}"
    )


def _bar(score: float, interval: Interval | None) -> str:
    whisker = ""
    if interval is not None:
        low, high = 160 * interval.low, 160 * interval.high
        whisker = f'<path d="M{low:.1f} 4v8M{high:.1f} 4v8M{low:.1f} 8H{high:.1f}" stroke="#1b1f24" fill="none"/>'
    return (
        f'<svg class="bar" viewBox="0 0 162 16" aria-hidden="true"><rect width="160" height="16" fill="#f0f1f3"/>'
        f'<rect width="{160 * score:.1f}" height="16" fill="#7fb6d8"/>{whisker}</svg>'
    )


def _warnings(board: Board) -> str:
    if not board.warnings:
        return '<p class="soft">Complete: every submission ran every trial of every study.</p>'
    listed = "".join(f"<li>{escape(warning)}</li>" for warning in board.warnings)
    return f'<div class="warnings"><strong>Partial results</strong><ul>{listed}</ul></div>'


def _evaluation_warning(shares: Mapping[str, float]) -> str:
    warning = too_much_evaluation(shares)
    return f'<div class="warnings">{escape(warning)}</div>' if warning else ""


def _table(table: Table, *, identifier: str = "") -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        first, *others = row
        numbers = "".join(f'<{tag} class="number">{escape(cell)}</{tag}>' for cell in others)
        return f"<{tag}>{escape(first)}</{tag}>{numbers}"

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows)
    caption = f'<p class="soft">{escape(table.caption)}</p>' if table.caption else ""
    named = f' id="{identifier}"' if identifier else ""
    head = f"<thead><tr>{cells('th', table.header)}</tr></thead>"
    return f'<div class="scroll"><table{named}>{head}<tbody>{body}</tbody></table></div>{caption}'


def _trials(index: int, board: Board, recorded: Sequence[RecordedTrial]) -> str:
    """Return every trial with its status and reason; folded, because there are thousands."""
    by_key = {trial.key: trial for trial in recorded}
    rows = []
    for key in sorted(board.states):
        end = board.ends.get(key)
        status, reason = status_of(key, board, by_key)
        time_s = seconds_text(end.time_s) if end is not None and math.isfinite(end.time_s) else ""
        point = (by_key[key].spec.hyperparameters or {}) if key in by_key else {}
        shown = ", ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in point.items()
        )
        cells = (key.submission, key.workload, str(key.study), str(key.trial), shown, time_s)
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr>{row}<td class="status-{status}">{status}</td><td>{escape(reason)}</td></tr>')
    statuses = Counter(state.value for state in board.states.values())
    counted = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    names = ("submission", "workload", "study", "trial", "hyperparameters", "time to target (s)", "state", "reason")
    head = "".join(f"<th>{name}</th>" for name in names)
    return (
        f"<details><summary>Trials: {counted}</summary>"
        f'<input type="search" data-table="trials-{index}" placeholder="filter: words that a row must have" '
        f'aria-label="filter trials">'
        f'<div class="scroll"><table id="trials-{index}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _environment(recorded: Sequence[RecordedTrial]) -> str:
    """Return what the trials ran on: one row per distinct machine and software."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for trial in recorded:
        if trial.environment is not None:
            found = trial.environment
            gpus = ", ".join(f"{count} x {name}" for name, count in Counter(gpu.name for gpu in found.gpus).items())
            torch = found.packages.get("torch", "absent")
            commit = (found.commit or "unknown")[:12] + ("" if found.is_clean_checkout else " with changes")
            ranks = f"{found.num_ranks} x {found.threads_per_rank} threads"
            row = (gpus or "no GPU", found.cpu_model, ranks, found.backend, found.python, torch, commit)
            groups[row].append(str(trial.key))
    if not groups:
        return '<p class="soft">These records say nothing about the machines that they were made on.</p>'
    rows = tuple((str(len(keys)), *row) for row, keys in sorted(groups.items()))
    header = ("trials", "GPUs", "CPU", "ranks", "backend", "Python", "torch", "commit")
    return _table(Table("Environment", header, rows))


def _complaints(complaints: Sequence[Complaint]) -> str:
    if not complaints:
        return '<p class="soft">Every record could be read.</p>'
    listed = "".join(f"<li>{escape(str(complaint))}</li>" for complaint in complaints)
    harmful = sum(not complaint.is_harmless for complaint in complaints)
    counted = f"{harmful} of {len(complaints)} irregularities took something away from the results"
    return f'<details><summary>{counted}</summary><ul class="soft">{listed}</ul></details>'
