"""Writes trial folders as the engine does, with chosen times and metrics: input for reading and scoring tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from perfbench.results.store import TrialFolder
from perfbench.spec.environment import Environment, Isolation
from perfbench.spec.result import (
    BudgetSpent,
    Measurement,
    Outcome,
    PhaseTimes,
    Resumed,
    TargetReached,
    TrialResult,
)
from perfbench.spec.run import TrialSpec
from perfbench.spec.seeds import trial_seed

BUDGET_S = 100.0
TARGET = 0.5
_STARTED = datetime(2026, 1, 1, tzinfo=UTC)


def trial_spec(
    changes: Mapping[str, object] | None = None,
    *,
    submission: str = "adamw",
    workload: str = "criteo",
    study: int = 0,
    trial: int = 1,
) -> TrialSpec:
    """Return a trial of a small workload; ``changes`` replace top-level fields of its plain form."""
    target = {"metric": "validation/loss", "direction": "minimize", "threshold": TARGET, "source": "test"}
    plain: dict[str, object] = {
        "workload": {
            "name": workload,
            "family": workload.split("_variant", maxsplit=1)[0],
            "version": 1,
            "description": "test",
            "scale": "mini",
            "dataset": "test",
            "targets": {"scored": target},
            "step_hint": 1000,
            "max_submission_time_s": BUDGET_S,
            "eval_period_s": 1.0,
            "eval_batch_size": 8,
            "reference_batch_size": 8,
            "params": {},
        },
        "submission": {
            "name": submission,
            "version": 1,
            "description": "test",
            "rulesets": ["external"],
            "search_space": {"kind": "points", "points": [{"x": 1.0}]},
        },
        "ruleset": {
            "kind": "external",
            "version": "test",
            "source": "test",
            "num_studies": 5,
            "num_trials": 5,
            "budget_factor": 1.0,
            "step_cap_factor": 1.0,
            "compile": "unscored",
            "evaluated_splits": ["validation"],
            "scoring": {
                "tau_max": 4.0,
                "max_ratio_to_fastest": 4.0,
                "held_out_required": False,
                "integration": "exact",
                "grid_points": 100,
            },
        },
        "scale": {
            "name": "mini",
            "target": "scored",
            "threads_per_rank": 1,
            "checkpoint_period_s": 5.0,
            "prepare_data": True,
        },
        "evaluation": {"kind": "wall_clock"},
        "run_seed": 0,
        "study": study,
        "trial": trial,
        "trial_seed": trial_seed(0, study=study, trial=trial),
        "hyperparameters": {"x": 1.0},
        "global_batch_size": 8,
        "num_ranks": 1,
        "target": target,
        "max_submission_time_s": BUDGET_S,
        "max_steps": 1000,
        "data_root": "data",
    }
    return TrialSpec.from_mapping(plain | dict(changes or {}))


def measurement(*, step: int, time_s: float, loss: float, attempt: int = 1) -> Measurement:
    """Return one evaluation."""
    return Measurement(
        attempt=attempt,
        step=step,
        submission_time_s=time_s,
        metrics={"validation/loss": loss, "validation/num_examples": 8.0},
        phases=PhaseTimes(scored=time_s, eval=1.0),
        wall_time_utc=(_STARTED + timedelta(seconds=time_s + 1.0)).isoformat(),
    )


def write_trial(
    runs: Path,
    spec: TrialSpec,
    records: Sequence[Measurement | Resumed],
    *,
    outcome: Outcome | None = None,
    is_finished: bool = True,
) -> TrialFolder:
    """Write a trial folder; the outcome is the last measurement's unless given."""
    folder = TrialFolder.of(runs, spec)
    folder.claim(spec)
    for record in records:
        folder.append(record)
    measured = [record for record in records if isinstance(record, Measurement)]
    if is_finished:
        folder.write_result(result_of(spec, measured, outcome))
    return folder


def write_reaching_trial(
    runs: Path,
    *,
    time_s: float,
    submission: str = "adamw",
    workload: str = "criteo",
    study: int = 0,
    trial: int = 1,
    **changes: object,
) -> TrialFolder:
    """Write a trial that reaches its target at ``time_s``; a time beyond the budget is a miss."""
    spec = trial_spec(changes, submission=submission, workload=workload, study=study, trial=trial)
    records = [
        measurement(step=10, time_s=time_s / 2, loss=2 * TARGET + 0.01 * study + 0.001 * trial),  # no two are equal
        measurement(step=20, time_s=time_s, loss=TARGET),
    ]
    return write_trial(runs, spec, records)


def result_of(spec: TrialSpec, measured: Sequence[Measurement], outcome: Outcome | None = None) -> TrialResult:
    """Return the result of a trial with these measurements."""
    last = measured[-1] if measured else measurement(step=0, time_s=0.0, loss=1.0)
    is_reached = last.submission_time_s <= BUDGET_S and last.metrics["validation/loss"] <= TARGET
    if outcome is None and is_reached:
        outcome = TargetReached(step=last.step, submission_time_s=last.submission_time_s)
    if outcome is None:
        outcome = BudgetSpent(resource="time", step=last.step, submission_time_s=last.submission_time_s)
    return TrialResult(
        trial_identity=spec.identity(),
        outcome=outcome,
        scorable=spec.is_scorable(),
        num_attempts=1,
        num_steps=last.step,
        num_measurements=len(measured),
        phases=last.phases,
        num_recompiles_after_warmup=0,
        best_metric=last.metrics["validation/loss"],
    )


def environment(**changes: object) -> Environment:
    """Return what a confined trial ran on."""
    facts = Environment(
        attempt=1,
        host_digest="a",
        operating_system="Linux",
        cpu_model="a",
        num_cores=1,
        memory_bytes=1,
        gpus=(),
        num_ranks=1,
        threads_per_rank=1,
        backend="none",
        python="3.11",
        packages={"torch": "2.14.1"},
        commit="c0ffee",
        is_clean_checkout=True,
        workload_digest="a",
        submission_digest="a",
        started_utc="2026-11-28T00:00:00+00:00",
        isolation=Isolation.SANDBOX,
    )
    return facts.model_copy(update=changes)
