"""``perfbench run``: one trial on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from perfbench.cli.output import (
    add_changed_code_options,
    add_output_options,
    console_and_view,
    on_changed_code,
    tell_withheld,
)
from perfbench.cli.progress import data_progress
from perfbench.compose import compose_run
from perfbench.errors import ExitCode
from perfbench.launch.changed_code import CodeNow, OnChangedCode, check_code
from perfbench.launch.execute import execute_trial
from perfbench.launch.plan import plan_trial
from perfbench.launch.preflight import check_submissions, check_trial
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.spec.run import RunSpec, TrialSpec
from perfbench.tracking.access import RUN_GOES_ON, check_tracking
from perfbench.tracking.views import View


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="e.g. workload=criteo submission=shampoo trial=2 hp.learning_rate=3e-4 seed=1",
    )
    parser.add_argument(
        "--dry-run", "--dry", action="store_true", help="check everything and print the trial, but do not run it"
    )
    parser.add_argument(
        "--require-target", action="store_true", help="exit with 1 if the trial ends without reaching its target"
    )
    add_changed_code_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the trial, or continue it, and print its summary."""
    console, view = console_and_view(arguments, lines=False)
    choice = on_changed_code(arguments)
    if arguments.dry_run:
        _, trial = _checked(arguments.overrides, console, choice, also_code=True)
        Console(soft_wrap=True).print_json(trial.to_json())
        return int(ExitCode.DONE)
    result, _ = run_one(arguments.overrides, console, view, choice)
    missed = arguments.require_target and result.outcome.kind != "reached"
    return int(ExitCode.RUN_FAILED if missed else ExitCode.DONE)


def run_one(
    overrides: Sequence[str], console: Console, view: View, choice: OnChangedCode
) -> tuple[TrialResult, TrialFolder]:
    """Check and run the trial that overrides ask for, or continue it, and show its summary.

    Args:
        overrides: ``key=value``.
        console: Shows data being prepared.
        view: Shows the trial.
        choice: What to do with a trial that was begun with other code.

    Raises:
        PerfbenchError: If it is refused, crashes or is interrupted.
    """
    request, trial = _checked(overrides, console, choice)
    tell_withheld(request.cluster, view)
    check_tracking(request.tracking, lambda why: view.warn(f"{why}; {RUN_GOES_ON}"))
    runs_root = Path(request.runs_root)
    result, folder = execute_trial(trial, request.cluster, request.tracking, runs_root, view, on_changed_code=choice)
    view.finished(trial, result, folder)
    return result, folder


def _checked(
    overrides: Sequence[str], console: Console, choice: OnChangedCode, *, also_code: bool = False
) -> tuple[RunSpec, TrialSpec]:
    """Compose and check; the submission's code where the trial has not begun, or where it is asked for."""
    request = compose_run(overrides)
    trial = plan_trial(request)
    runs_root = Path(request.runs_root)
    check_code([trial], runs_root.resolve(), choice, code=CodeNow())
    with data_progress(console) as progress:
        check_trial(trial, runs_root, progress)
    if also_code or not TrialFolder.of(runs_root.resolve(), trial).has_begun():
        check_submissions([trial])  # so that an author's mistake leaves no folder behind
    return request, trial
