"""Trials as rows: what was set, what came of it, and where it lies. For any trials, explored ones too; no score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import JsonValue

from perfbench.results.store import TrialFolder
from perfbench.results.trials import RecordedTrial
from perfbench.spec.result import Crashed, TargetReached
from perfbench.spec.workload import Direction


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """One trial."""

    submission: str
    workload: str
    scale: str
    name: str
    """``study 0, trial 1``, or of an explored trial what differs."""
    is_explored: bool
    study: int
    trial: int
    seed: int
    hyperparameters: dict[str, JsonValue]
    outcome: str
    """The result's kind; without a result ``pruned`` if a search ended it, else ``unfinished``."""
    num_steps: int
    num_batches: int | None
    metric: str
    best_metric: float | None
    time_s: float | None
    """On the clock: at the target, else at the end."""
    is_reached: bool
    steps_per_s: float | None
    path: Path

    @property
    def order(self) -> tuple[object, ...]:
        """Sort by submission and workload, there the best first: by time to the target, then by the metric."""
        return (self.workload, self.submission, *self.rank)

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Return what tells better from worse on one workload; smaller is better."""
        time_s = self.time_s if self.is_reached and self.time_s is not None else math.inf
        return not self.is_reached, time_s, self.metric_loss

    metric_loss: float
    """The best metric, turned so that less is better; infinite where there is none."""


def rows_of(trials: Sequence[RecordedTrial]) -> list[TrialRow]:
    """Return a row for each trial, the best of each submission on each workload first."""
    return sorted((_row(trial) for trial in trials), key=lambda row: row.order)


def _row(trial: RecordedTrial) -> TrialRow:
    spec, result = trial.spec, trial.result
    last = trial.measurements[-1] if trial.measurements else None
    outcome = None if result is None else result.outcome
    best = _best(trial)
    scored_s = last.submission_time_s if last is not None else None
    if outcome is not None and not isinstance(outcome, Crashed):
        scored_s = outcome.submission_time_s
    num_steps = result.num_steps if result is not None else last.step if last is not None else 0
    return TrialRow(
        submission=spec.submission.name,
        workload=spec.workload.name,
        scale=spec.scale.name.value,
        name=spec.explored or f"study {spec.study}, trial {spec.trial}",
        is_explored=spec.explored is not None,
        study=spec.study,
        trial=spec.trial,
        seed=spec.run_seed,
        hyperparameters=dict(spec.hyperparameters or {}),
        outcome=_without_result(trial) if outcome is None else outcome.kind,
        num_steps=num_steps,
        num_batches=None if result is None else result.num_batches,
        metric=spec.target.metric,
        best_metric=best,
        time_s=scored_s,
        is_reached=isinstance(outcome, TargetReached),
        steps_per_s=num_steps / scored_s if scored_s else None,
        path=trial.path,
        metric_loss=math.inf if best is None else best if spec.target.direction is Direction.MINIMIZE else -best,
    )


def _without_result(trial: RecordedTrial) -> str:
    is_pruned = trial.spec.explored is not None and TrialFolder(trial.path).telemetry("pruned")
    return "pruned" if is_pruned else "unfinished"


def _best(trial: RecordedTrial) -> float | None:
    """Return the best evaluation of the target's metric."""
    target = trial.spec.target
    found = [one.metrics.get(target.metric, math.nan) for one in trial.measurements]
    finite = [value for value in found if math.isfinite(value)]
    if not finite:
        return None
    return min(finite) if target.direction is Direction.MINIMIZE else max(finite)


def hyperparameter_names(rows: Sequence[TrialRow]) -> list[str]:
    """Return the names of all hyperparameters, in the order in which they first occur."""
    return list(dict.fromkeys(name for row in rows for name in row.hyperparameters))


def varying(rows: Sequence[TrialRow]) -> list[str]:
    """Return the hyperparameters that differ within a submission on a workload: what somebody looks for."""
    groups: dict[tuple[str, str], list[TrialRow]] = {}
    for row in rows:
        groups.setdefault((row.submission, row.workload), []).append(row)
    return [
        name
        for name in hyperparameter_names(rows)
        if any(len({str(row.hyperparameters.get(name)) for row in group}) > 1 for group in groups.values())
    ]


def frame(rows: Sequence[TrialRow]) -> pl.DataFrame:
    """Return everything as columns, a hyperparameter's named ``hyperparameters/<name>``; for CSV and parquet."""
    columns: dict[str, list[object]] = {
        "submission": [row.submission for row in rows],
        "workload": [row.workload for row in rows],
        "scale": [row.scale for row in rows],
        "explored": [row.name if row.is_explored else None for row in rows],
        "study": [row.study for row in rows],
        "trial": [row.trial for row in rows],
        "seed": [row.seed for row in rows],
        **{
            f"hyperparameters/{name}": [_cell(row.hyperparameters.get(name)) for row in rows]
            for name in hyperparameter_names(rows)
        },
        "outcome": [row.outcome for row in rows],
        "steps": [row.num_steps for row in rows],
        "batches": [row.num_batches for row in rows],
        "metric": [row.metric for row in rows],
        "best_metric": [row.best_metric for row in rows],
        "time_s": [row.time_s for row in rows],
        "time_to_target_s": [row.time_s if row.is_reached else None for row in rows],
        "steps_per_s": [row.steps_per_s for row in rows],
        "folder": [str(row.path) for row in rows],
    }
    return pl.DataFrame({name: pl.Series(values, strict=False) for name, values in columns.items()})


def _cell(value: JsonValue) -> object:
    return str(value) if isinstance(value, list | dict) else value
