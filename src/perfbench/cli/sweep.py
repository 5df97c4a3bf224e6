"""``perfbench sweep``: all trials of a study, one after another."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perfbench.cli.progress import data_progress
from perfbench.compose import compose_run
from perfbench.errors import ExitCode, TrialFailedError
from perfbench.launch.execute import execute_trial
from perfbench.launch.plan import plan_study
from perfbench.launch.preflight import check_trial
from perfbench.spec.result import TrialResult
from perfbench.spec.run import TrialSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. workload=criteo submission=shampoo")
    parser.add_argument("--dry", action="store_true", help="print the trials, but do not run them")


def run(arguments: argparse.Namespace) -> int:
    """Run what is not yet done; a crashed trial does not stop the others."""
    console = Console(soft_wrap=True)
    request = compose_run(arguments.overrides)
    trials = plan_study(request)
    runs_root = Path(request.runs_root)
    with data_progress(console) as progress:
        check_trial(trials[0], runs_root, progress)
    console.print(_plan_table(trials))
    if arguments.dry:
        return int(ExitCode.DONE)
    results: list[TrialResult | None] = []
    for trial in trials:
        console.rule(trial.label())
        try:
            results.append(execute_trial(trial, request.cluster, runs_root, console)[0])
        except TrialFailedError as problem:
            console.print(f"[red]{problem}[/]")
            results.append(None)
            if "interrupted" in problem.what:
                break
    console.print(_result_table(trials, results))
    console.print(f"records: {runs_root.resolve()}   score them: perfbench score {request.runs_root}")
    return int(ExitCode.DONE if all(results) and len(results) == len(trials) else ExitCode.RUN_FAILED)


def _plan_table(trials: list[TrialSpec]) -> Table:
    first = trials[0]
    table = Table(title=f"{first.submission.name} on {first.workload.name}, study {first.study}", title_justify="left")
    table.add_column("trial", justify="right")
    for name in first.hyperparameters or {}:
        table.add_column(name, justify="right")
    for trial in trials:
        values = (trial.hyperparameters or {}).values()
        table.add_row(str(trial.trial), *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values))
    return table


def _result_table(trials: list[TrialSpec], results: list[TrialResult | None]) -> Table:
    table = Table(title="results", title_justify="left")
    for name in ("trial", "outcome", "time to target", "steps", "best"):
        table.add_column(name, justify="left" if name == "outcome" else "right")
    for trial, result in zip(trials, results, strict=False):
        if result is None:
            table.add_row(str(trial.trial), "[red]failed[/]", "", "", "")
            continue
        time_s = result.time_to_target_s
        best = "" if result.best_metric is None else f"{result.best_metric:.5f}"
        shown = f"{time_s:.1f} s" if result.outcome.kind == "reached" else "-"
        table.add_row(str(trial.trial), result.outcome.kind, shown, f"{result.num_steps:,}", best)
    return table
