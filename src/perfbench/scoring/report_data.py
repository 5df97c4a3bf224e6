"""What the figures of the report show, as plain data for the page's script. Nothing is decided here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from perfbench.results.trials import Floats, RecordedTrial, TrialKey, TrialLog
from perfbench.scoring.accounting import time_accounting
from perfbench.scoring.board import Board, Cell
from perfbench.scoring.document import finite
from perfbench.scoring.style import line_style, profile_steps
from perfbench.scoring.tables import cell_text, seconds_text
from perfbench.scoring.uncertainty import Uncertainty
from perfbench.spec.result import BudgetSpent, Completed, Crashed, Diverged, Outcome, TargetReached
from perfbench.spec.workload import Direction, Target

_MOST_POINTS = 120
"""Of a curve: more than a figure of this size has pixels for."""


def page_data(
    board: Board, uncertainty: Uncertainty, logs: Sequence[TrialLog], recorded: Sequence[RecordedTrial]
) -> dict[str, Any]:
    """Return everything that the figures of one board need."""
    drawn = curves(board, logs)
    return {
        "name": board.benchmark.name,
        "tau_max": board.benchmark.scoring.tau_max,
        "submissions": [_submission(board, uncertainty, index) for index in range(len(board.submissions))],
        "workloads": [
            {
                "name": name,
                "base": workload.base,
                "metric": workload.target.metric,
                "minimize": workload.target.direction is Direction.MINIMIZE,
                "target": workload.target.threshold,
                "budget_s": workload.max_submission_time_s,
                "limits": value_limits([one for one in drawn if one["workload"] == name], workload.target),
            }
            for name, workload in board.benchmark.workloads.items()
        ],
        "cells": [_cell(board, uncertainty, cell) for _, cell in sorted(board.cells.items())],
        "curves": drawn,
        "accounting": time_accounting(board, recorded),
    }


def _submission(board: Board, uncertainty: Uncertainty, index: int) -> dict[str, Any]:
    name = board.submissions[index]
    colour, dashes = line_style(index)
    interval = uncertainty.score[name]
    factors, shares = profile_steps(board.ratios()[index].tolist(), tau_max=board.benchmark.scoring.tau_max)
    return {
        "name": name,
        "score": board.score[name],
        "interval": None if interval is None else list(interval),
        "colour": colour,
        "dashes": list(dashes),
        "profile": [[round(factor, 5), round(share, 5)] for factor, share in zip(factors, shares, strict=True)],
        "higher": {other: uncertainty.scores_higher.get((name, other)) for other in board.submissions if other != name},
    }


def _cell(board: Board, uncertainty: Uncertainty, cell: Cell) -> dict[str, Any]:
    interval = uncertainty.time_s[cell.submission, cell.workload]
    budget_s = board.benchmark.workloads[cell.workload].max_submission_time_s
    is_reached = math.isfinite(cell.time.time_s)
    fraction = cell.time.time_s / budget_s if is_reached else None
    mark = cell_text(cell).removeprefix(seconds_text(cell.time.time_s)) if is_reached else cell_text(cell)
    return {
        "submission": cell.submission,
        "workload": cell.workload,
        "time_s": finite(cell.time.time_s),
        "interval": None if interval is None else [finite(interval.low), finite(interval.high)],
        "fraction": fraction,
        "ratio": finite(cell.ratio),
        "verdict": cell.verdict.value,
        "mark": mark,
        "studies": [finite(study.time_s) for study in cell.time.studies],
    }


def curves(board: Board, logs: Sequence[TrialLog]) -> list[dict[str, Any]]:
    """Return metric against submission time for the trial of every study that counts.

    Where no trial of a study reached the target, the one that came closest to it is shown.
    """
    chosen: dict[tuple[str, str, int], TrialLog] = {}
    for log in logs:
        if log.key not in board.ends or not len(log):
            continue
        place = (log.key.submission, log.key.workload, log.key.study)
        if place not in chosen or _closeness(board, log) < _closeness(board, chosen[place]):
            chosen[place] = log
    return [_curve(board, log) for _, log in sorted(chosen.items())]


def _closeness(board: Board, log: TrialLog) -> tuple[float, float]:
    """Rank trials: by time to the target, then by how far the best evaluation was from it."""
    target = board.benchmark.workloads[log.key.workload].target
    away = log.target_metric - target.threshold
    away = away if target.direction is Direction.MINIMIZE else -away
    away = away[np.isfinite(away)]
    return board.ends[log.key].time_s, float(away.min()) if len(away) else math.inf


def _curve(board: Board, log: TrialLog) -> dict[str, Any]:
    kept = thinned(len(log), board.ends[log.key].evaluation_index)
    return {
        "submission": log.key.submission,
        "workload": log.key.workload,
        "study": log.key.study,
        "trial": log.key.trial,
        "reached_s": finite(board.ends[log.key].time_s),
        "times_s": _rounded(log.submission_times_s[kept]),
        "values": _rounded(log.target_metric[kept]),
    }


def value_limits(drawn: Sequence[dict[str, Any]], target: Target) -> tuple[float, float]:
    """Return the part of the metric's axis on which runs differ.

    The first fifth of every run and the worst sixth of all values are left out: an untrained or diverged model is
    so far away that the others would lie on one line.
    """
    values = [value for one in drawn for value in one["values"][len(one["values"]) // 5 :] if value is not None]
    quantiles = (0.0, 5 / 6) if target.direction is Direction.MINIMIZE else (1 / 6, 1.0)
    low, high = np.quantile([*values, target.threshold], quantiles).tolist()
    low, high = min(low, target.threshold), max(high, target.threshold)
    margin = 0.06 * (high - low) or abs(target.threshold) or 1.0
    return low - margin, high + margin


def thinned(length: int, always: int | None) -> list[int]:
    """Return at most a figure's worth of indices, evenly spread, with the first, the last and ``always``.

    >>> thinned(4, 2)
    [0, 1, 2, 3]
    >>> len(thinned(10_000, 1)) <= 121, 1 in thinned(10_000, 1)
    (True, True)
    """
    kept = set(np.linspace(0, length - 1, min(length, _MOST_POINTS)).astype(int).tolist())
    return sorted(kept if always is None else kept | {always})


def _rounded(values: Floats) -> list[float | None]:
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]


def status_of(key: TrialKey, board: Board, recorded: dict[TrialKey, RecordedTrial]) -> tuple[str, str]:
    """Return a trial's state and the reason, for people."""
    trial = recorded.get(key)
    end = board.ends.get(key)
    own = None if trial is None or trial.result is None else trial.result.outcome
    reason = _reason(None if end is None else end.outcome, own)
    left_out = "" if end is not None else "its study is not finished, and left out"
    return board.states[key].value, "; ".join(part for part in (reason, left_out) if part)


def _reason(judged: Outcome | None, own: Outcome | None) -> str:
    match judged or own:
        case TargetReached():
            return ""
        case Diverged() as diverged:
            return diverged.what
        case BudgetSpent() as spent:
            return f"budget of {spent.resource} spent"
        case Completed():
            return "the submission had nothing more to do"
        case Crashed() as crash:
            return f"{crash.reason}: {crash.error_type}: {crash.message}"
        case _:
            return "the log ends before target and budget" if own is None else ""
