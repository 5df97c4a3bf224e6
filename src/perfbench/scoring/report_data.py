"""What the page's script shows, as plain data: figures and trials. Nothing is decided here."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from perfbench.results.trials import Floats, Integers, RecordedTrial, TrialKey, TrialLog
from perfbench.scoring.accounting import time_accounting
from perfbench.scoring.board import Board
from perfbench.scoring.document import finite
from perfbench.scoring.style import (
    COLOURS,
    DARK_COLOURS,
    DASHES,
    MARKERS,
    PHASE_COLOURS,
    Look,
    looks_of,
    profile_steps,
)
from perfbench.scoring.subset_front import SubsetAnalysis
from perfbench.scoring.subset_tables import subset_text
from perfbench.scoring.uncertainty import MOST_COMPARED, Uncertainty, profile_bands
from perfbench.spec.result import BudgetSpent, Completed, Crashed, Diverged, Outcome, TargetReached
from perfbench.spec.workload import Direction, Target

_MOST_POINTS = 120
"""Of a curve: more than a figure of this size has pixels for."""
_NUM_BAND_POINTS = 61


def page_data(
    board: Board, uncertainty: Uncertainty, logs: Sequence[TrialLog], recorded: Sequence[RecordedTrial], folder: Path
) -> dict[str, Any]:
    """Return everything that the page's script shows of one board.

    Args:
        board: Which one.
        uncertainty: Its intervals.
        logs: The trials that it was made from.
        recorded: The same as trial folders; none where they are published logs.
        folder: Of the page: links to trials are relative to it.
    """
    drawn = curves(board, logs)
    return {
        "name": board.benchmark.name,
        "tau_max": board.benchmark.scoring.tau_max,
        "submissions": _submissions(board),
        "workloads": [
            {
                "name": name,
                "metric": workload.target.metric,
                "target": workload.target.threshold,
                "budget_s": workload.max_submission_time_s,
                "limits": value_limits([one for one in drawn if one["workload"] == name], workload.target),
            }
            for name, workload in board.benchmark.workloads.items()
        ],
        "level": uncertainty.level,
        "curves": drawn,
        "accounting": time_accounting(board, recorded),
        "phases": PHASE_COLOURS,
        "trials": trial_data(board, logs, recorded, folder),
    }


def _submissions(board: Board) -> list[dict[str, Any]]:
    """Return the look, the profile and its interval of every submission."""
    tau_max = board.benchmark.scoring.tau_max
    taus = np.linspace(1.0, tau_max, _NUM_BAND_POINTS)
    bands = profile_bands(board, taus) if len(board.submissions) <= MOST_COMPARED else {}
    ratios = board.ratios()
    found = []
    for row, (name, look) in enumerate(zip(board.submissions, looks_of(board.submissions), strict=True)):
        factors, shares = profile_steps(ratios[row].tolist(), tau_max=tau_max)
        found.append(
            look_data(look)
            | {
                "name": name,
                "score": board.score[name],
                "profile": [[round(factor, 5), round(share, 5)] for factor, share in zip(factors, shares, strict=True)],
                "band": None if name not in bands else bands[name].round(4).tolist(),
            }
        )
    return found


def look_data(look: Look) -> dict[str, Any]:
    """Return a look in the words of the chart library."""
    return {
        "light": COLOURS[look.colour],
        "dark": DARK_COLOURS[look.colour],
        "dash": ",".join(f"{length}px" for length in DASHES[look.dash]) or "solid",
        "marker": MARKERS[look.marker],
    }


def front_data(analysis: SubsetAnalysis) -> dict[str, Any]:
    """Return agreement of every subset with the whole board against its cost in percent, and the front."""
    return {
        "cost": [round(100 * one, 4) for one in analysis.subsets.cost.tolist()],
        "in_sample": [round(one, 4) for one in analysis.in_sample.tolist()],
        "repeated": analysis.repeated.value,
        "rows": [
            {
                "names": subset_text(analysis, row.subset),
                "cost": 100 * float(analysis.subsets.cost[row.subset]),
                "in_sample": row.in_sample.value,
                "validated": row.validated.value,
                "low": row.validated.low,
                "high": row.validated.high,
                "chance": row.chance.mean,
            }
            for row in analysis.rows
        ],
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
    reached = board.ends[log.key].evaluation_index
    kept = thinned(len(log), reached)
    return {
        "submission": log.key.submission,
        "workload": log.key.workload,
        "study": log.key.study,
        "trial": log.key.trial,
        "reached": None if reached is None else kept.index(reached),
    } | curve_columns(log.submission_times_s[kept], log.steps[kept], log.target_metric[kept])


def curve_columns(times_s: Floats, steps: Integers, values: Floats) -> dict[str, list[Any]]:
    """Return evaluations as JSON has them: ``None`` for what is no number."""
    return {"times_s": _rounded(times_s), "steps": steps.tolist(), "values": _rounded(values)}


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


def trial_data(
    board: Board, logs: Sequence[TrialLog], recorded: Sequence[RecordedTrial], folder: Path
) -> dict[str, Any]:
    """Return every trial as a row of plain values, in the order of ``columns``."""
    by_key = {trial.key: trial for trial in recorded}
    by_log = {log.key: log for log in logs}
    tuned = list(dict.fromkeys(name for log in logs for name in log.hyperparameters or {}))
    rows = []
    for key, state in sorted(board.states.items()):
        log, end = by_log[key], board.ends.get(key)
        point = log.hyperparameters or {}
        time_s = None if end is None else finite(end.time_s)
        numbers = [time_s, *_totals(log, by_key.get(key)), _best(log, board)]
        names = [key.submission, key.workload, key.study, key.trial]
        place = log.path if log.path.suffix != ".csv" else log.path.parent
        link = quote(os.fsencode(os.path.relpath(place.absolute(), folder.absolute())))
        reason = status_of(key, board, by_key)[1]
        rows.append([*names, state.value, *numbers, *(point.get(name) for name in tuned), reason, link])
    columns = ["submission", "workload", "study", "trial", "state", "time to target (s)", "time in all (s)", "steps"]
    return {"columns": [*columns, "best metric", *tuned, "reason", "folder"], "rows": rows}


def _totals(log: TrialLog, trial: RecordedTrial | None) -> tuple[float | None, int | None]:
    """Return seconds on the clock and steps of all of a trial."""
    steps = int(log.steps[-1]) if len(log) else None
    time_s = finite(round(float(log.submission_times_s[-1]), 3)) if len(log) else None
    if trial is None or trial.result is None:
        return time_s, steps
    return round(trial.result.phases.scored, 3), trial.result.num_steps


def _best(log: TrialLog, board: Board) -> float | None:
    values = log.target_metric[np.isfinite(log.target_metric)]
    if not len(values):
        return None
    is_smaller_better = board.benchmark.workloads[log.key.workload].target.direction is Direction.MINIMIZE
    return float(f"{values.min() if is_smaller_better else values.max():.6g}")


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
