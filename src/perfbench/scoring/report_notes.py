"""What a reader must know beside the numbers: what the board says in a sentence, and how far it can be believed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from html import escape

from perfbench.results.trials import Complaint, RecordedTrial
from perfbench.scoring.board import Board, Verdict
from perfbench.scoring.gap import Cause, Gap
from perfbench.scoring.report_tables import plain_table
from perfbench.scoring.tables import Table
from perfbench.scoring.uncertainty import Uncertainty

_SURE = 0.95
_SHOWN_PATHS = 200


def headline(board: Board, uncertainty: Uncertainty) -> str:
    """Return the board in one or two sentences, as HTML."""
    first, *others = board.submissions
    bases = board.benchmark.base_workloads()
    counted = sum(board.cells[first, one].verdict is Verdict.COUNTED for one in bases)
    interval = uncertainty.score[first]
    spread = f" ({uncertainty.level:.0%} interval {interval.low:.2f} to {interval.high:.2f})" if interval else ""
    reach = f"its time counts on {counted} of {len(bases)} workloads"
    if not others:
        return f"<strong>{escape(first)}</strong> stands alone, so every time is compared with itself; {reach}."
    said = f"<strong>{escape(first)}</strong> scores highest: {board.score[first]:.2f}{spread}; {reach}."
    share = uncertainty.scores_higher.get((first, others[0]))
    if share is None:
        return said
    settled = "that order is settled" if share >= _SURE else "that order is open"
    return f"{said} It beats {escape(others[0])} in {share:.0%} of resampled studies: {settled}."


def how_to_read(board: Board) -> str:
    """Return three sentences that someone needs who has never seen such a board."""
    tau_max = board.benchmark.scoring.tau_max
    return (
        '<p class="how"><strong>How to read this.</strong> Every submission trained the same models on the same data '
        "until a fixed validation target, and what is compared is the seconds that this took. The score says how "
        "close a submission came to the fastest one over all workloads: 1 is fastest everywhere, 0 is never within "
        f"{tau_max:g} times the fastest. Two submissions whose intervals overlap have no settled order, and a target "
        "that was not reached counts as infinitely slow.</p>"
    )


def facts(index: int, board: Board, num_trials: int, recorded: Sequence[RecordedTrial]) -> str:
    """Return what the numbers rest on, as a short list: trials, machine, integrity, and what is missing."""
    rules = board.benchmark
    weak = {gap.submission for gap in board.gaps if gap.submission}
    missing = f"{len(board.gaps)} gaps in the records of {len(weak)} submissions" if board.gaps else ""
    warning = f'<a href="#missing-{index}"><strong>Partial results</strong>: {missing}</a>'
    shown = {
        "Trials": f"{num_trials:,}; by the rules {rules.num_studies} studies of {rules.num_trials} on each workload",
        "Timed on": escape(_machine(board, recorded)),
        "Integrity": escape(_integrity(board)),
        "Completeness": warning if board.gaps else "every submission ran every trial of every study",
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in shown.items())
    return f'<dl class="facts">{listed}</dl>'


def _machine(board: Board, recorded: Sequence[RecordedTrial]) -> str:
    if board.benchmark.hardware:
        return board.benchmark.hardware
    found = [_hardware(trial) for trial in recorded if trial.environment is not None]
    if not found:
        return "not on record"
    (most, count), *others = Counter(found).most_common()
    return most if not others else f"{most} ({count} trials) and {len(others)} other kinds of machine: see Environment"


def _hardware(trial: RecordedTrial) -> str:
    assert trial.environment is not None, "the caller has looked"
    gpus = Counter(gpu.name for gpu in trial.environment.gpus)
    return ", ".join(f"{count} x {name}" for name, count in gpus.items()) or trial.environment.cpu_model


def _integrity(board: Board) -> str:
    """Say how far the submissions' times can be believed, each level with who has it."""
    levels: dict[str, list[str]] = defaultdict(list)
    for name in board.submissions:
        levels[board.attestations[name] or "not on record (published logs and early records say nothing)"].append(name)
    if len(levels) == 1:
        return f"{next(iter(levels))}, all submissions"
    return "; ".join(f"{level}: {', '.join(names)}" for level, names in levels.items())


def gaps(index: int, found: Sequence[Gap]) -> str:
    """Return everything that is missing, grouped by its cause."""
    if not found:
        return ""
    groups = {cause: [gap for gap in found if gap.cause is cause] for cause in Cause}
    listed = "".join(_group(cause.value, map(str, members)) for cause, members in groups.items() if members)
    return f'<div class="warnings" id="missing-{index}"><h3>What is missing</h3>{listed}</div>'


def _group(title: str, lines: Iterable[str], *, most: int | None = None) -> str:
    all_lines = list(lines)
    items = "".join(f"<li>{escape(line)}</li>" for line in all_lines[:most])
    more = f"<li>and {len(all_lines) - most:,} more like these</li>" if most and len(all_lines) > most else ""
    count = f'<span class="count">{len(all_lines):,}</span>'
    return f"<details><summary>{escape(title)} {count}</summary><ul>{items}{more}</ul></details>"


def complaints_by_kind(complaints: Sequence[Complaint]) -> str:
    """Return what was wrong on disk: what took something away first, each kind once with its files."""
    if not complaints:
        return '<p class="soft">Every record could be read.</p>'
    kinds: dict[tuple[bool, str], list[Complaint]] = defaultdict(list)
    for complaint in complaints:
        kinds[complaint.is_harmless, re.sub(r"\d+|'[^']*'", "…", complaint.what)].append(complaint)
    harmful = sum(not complaint.is_harmless for complaint in complaints)
    said = f"{harmful} of {len(complaints)} irregularities took something away from the results."
    listed = "".join(
        _group(alike[0].what + (" (and others like it)" if len(alike) > 1 else ""), map(str, alike), most=_SHOWN_PATHS)
        for _, alike in sorted(kinds.items())
    )
    return f"<p>{said}</p>{listed}"


def environment(recorded: Sequence[RecordedTrial]) -> str:
    """Return what the trials ran on: one row per distinct machine and software."""
    groups: Counter[tuple[str, ...]] = Counter()
    for trial in recorded:
        if trial.environment is not None:
            found = trial.environment
            torch = found.packages.get("torch", "absent")
            commit = (found.commit or "unknown")[:12] + ("" if found.is_clean_checkout else " with changes")
            ranks = f"{found.num_ranks} x {found.threads_per_rank} threads"
            gpus = _hardware(trial) if found.gpus else "no GPU"
            groups[gpus, found.cpu_model, ranks, found.backend, found.python, torch, commit] += 1
    if not groups:
        return '<p class="soft">These records say nothing about the machines that they were made on.</p>'
    rows = tuple((str(count), *row) for row, count in sorted(groups.items()))
    return plain_table(
        Table("Environment", ("trials", "GPUs", "CPU", "ranks", "backend", "Python", "torch", "commit"), rows)
    )
