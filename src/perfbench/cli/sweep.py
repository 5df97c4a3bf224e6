"""``perfbench sweep``: trials of whole studies and suites, here one after another or on Slurm all at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from perfbench.cli.arrays import SubmitOptions, show_problems, submit_or_show
from perfbench.cli.expectation import expectation
from perfbench.cli.exploring import sweep_trials
from perfbench.cli.listing import Listing, print_listing, short
from perfbench.cli.output import (
    add_changed_code_options,
    add_output_options,
    console_and_view,
    on_changed_code,
    tell_withheld,
)
from perfbench.cli.progress import data_progress
from perfbench.errors import ExitCode, PerfbenchError, TrialFailedError, TrialInterruptedError
from perfbench.launch.changed_code import CodeNow, OnChangedCode, check_code
from perfbench.launch.execute import execute_trial
from perfbench.launch.preflight import check_submissions, check_trial
from perfbench.places import command
from perfbench.spec.result import TrialResult
from perfbench.spec.run import RunSpec, SlurmCluster, TrialSpec
from perfbench.tracking.access import RUN_GOES_ON, check_tracking
from perfbench.tracking.views import View


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="e.g. workload=criteo submission=shampoo,baseline study=all cluster=slurm (workload can be a suite); "
        "trial=2,4 seed=1,2,3 hp.learning_rate=1e-4,1e-3 hp.weight_decay=1e-3..1e-1 points=8",
    )
    parser.add_argument("--dry-run", "--dry", action="store_true", help="show the plan, and on Slurm the job script")
    parser.add_argument("--retry-failed", action="store_true", help="on Slurm: also what has crashed")
    add_changed_code_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run or submit what is not yet done."""
    console, view = console_and_view(arguments, lines=True)
    requests, trials = sweep_trials(arguments.overrides)
    cluster, runs_root = requests[0].cluster, Path(requests[0].runs_root)
    choice = on_changed_code(arguments)
    problems: list[PerfbenchError] = []
    if arguments.dry_run:
        problems += _problems(trials, runs_root, console, prepares=False)
        tell_withheld(cluster, view)
    else:
        make_sure(requests, trials, console, view)
    if isinstance(cluster, SlurmCluster):
        if trials[0].explored:  # nobody knows them otherwise; of studies `perfbench show` prints the points
            for request in requests:
                print_listing(console, _plan_table(_of(request, trials)))
        tracking = requests[0].tracking
        if arguments.dry_run:
            _print_expectation(console, trials)
        options = SubmitOptions(arguments.dry_run, arguments.retry_failed, tracking, tuple(problems), choice)
        return submit_or_show(trials, cluster, runs_root.resolve(), Console(soft_wrap=True), options)
    if arguments.dry_run:
        check_code(trials, runs_root.resolve(), choice, code=CodeNow())
        for request in requests:
            print_listing(console, _plan_table(_of(request, trials)))
        _print_expectation(console, trials)
        return show_problems(problems, console)
    results = run_here(requests, trials, console, view, choice)
    return int(ExitCode.DONE if all(results) and len(results) == len(trials) else ExitCode.RUN_FAILED)


def make_sure(requests: Sequence[RunSpec], trials: Sequence[TrialSpec], console: Console, view: View) -> None:
    """Check everything that can be known to fail before the first trial starts, and prepare small data.

    Raises:
        PerfbenchError: The first that is wrong.
    """
    for problem in _problems(trials, Path(requests[0].runs_root), console, prepares=True):
        raise problem
    check_tracking(requests[0].tracking, lambda why: view.warn(f"{why}; {RUN_GOES_ON}"))
    tell_withheld(requests[0].cluster, view)


def _print_expectation(console: Console, trials: Sequence[TrialSpec]) -> None:
    for line in expectation(trials):
        console.print(escape(line), highlight=False)


def _problems(
    trials: Sequence[TrialSpec], runs_root: Path, console: Console, *, prepares: bool
) -> Iterator[PerfbenchError]:
    """Check every submission and point; parameters, run folder and data once for each workload. Yield what is wrong."""
    try:
        check_submissions(trials)
    except PerfbenchError as problem:
        yield problem
    with data_progress(console) as progress:
        for trial in {trial.workload.name: trial for trial in reversed(trials)}.values():
            try:
                check_trial(trial, runs_root, progress, prepares=prepares)
            except PerfbenchError as problem:
                yield problem


def _of(request: RunSpec, trials: Sequence[TrialSpec]) -> list[TrialSpec]:
    wanted = (request.submission.name, request.workload.name, request.study)
    return [trial for trial in trials if (trial.submission.name, trial.workload.name, trial.study) == wanted]


def run_here(
    requests: Sequence[RunSpec], trials: Sequence[TrialSpec], console: Console, view: View, choice: OnChangedCode
) -> list[TrialResult | None]:
    """Run one trial after another, those that crash among the others, and show the plan and what came of it.

    Returns:
        A result or ``None`` for each trial that was started; fewer than there are trials after an interrupt.

    Raises:
        PerfbenchError: If trials were begun with other code.
    """
    first = requests[0]
    runs_root = Path(first.runs_root)
    check_code(trials, runs_root.resolve(), choice, code=CodeNow())
    for request in requests:
        print_listing(console, _plan_table(_of(request, trials)))
    results: list[TrialResult | None] = []
    for trial in trials:
        try:
            result, folder = execute_trial(
                trial, first.cluster, first.tracking, runs_root, view, on_changed_code=choice
            )
            view.finished(trial, result, folder)
            results.append(result)
        except TrialFailedError as problem:
            view.failed(trial, problem)
            results.append(None)
            if isinstance(problem, TrialInterruptedError):
                break
    print_listing(console, _result_table(trials, results, several=len(requests) > 1))
    next_step = "table" if any(trial.explored for trial in trials) else "score"
    console.print(f"records: {runs_root.resolve()}   next: {command()} {next_step} {first.runs_root}")
    return results


def _plan_table(trials: Sequence[TrialSpec]) -> Listing:
    first = trials[0]
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters or {}))
    where = "explored" if first.explored else f"study {first.study}"
    title = f"{first.submission.name} on {first.workload.name}, {where}"
    listing = Listing(["trial", "seed", *names], title, frozenset({"seed", *names}))
    for trial in trials:
        point = trial.hyperparameters or {}
        listing.add(str(trial.trial), str(trial.run_seed), *(escape(short(point.get(name, ""))) for name in names))
    return listing


def _result_table(trials: Sequence[TrialSpec], results: Sequence[TrialResult | None], *, several: bool) -> Listing:
    numbers = ("time to target", "steps", "best")
    listing = Listing(["trial", "outcome", *numbers], "results", frozenset(numbers))
    for trial, result in zip(trials, results, strict=False):
        name = trial.label() if several else trial.explored or str(trial.trial)
        if result is None:
            listing.add(escape(name), "[red]failed[/]", "", "", "")
            continue
        time_s = result.time_to_target_s
        best = "" if result.best_metric is None else f"{result.best_metric:.5f}"
        shown = f"{time_s:.1f} s" if result.outcome.kind == "reached" else "-"
        listing.add(escape(name), result.outcome.kind, shown, f"{result.num_steps:,}", best)
    return listing
