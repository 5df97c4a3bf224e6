"""``perfbench show``: the composed, typed configuration, and what there is to choose from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from perfbench.cli.listing import Listing, print_listing
from perfbench.compose import compose_run, compose_submission, compose_workload
from perfbench.config_files import choices
from perfbench.errors import ExitCode
from perfbench.launch.plan import plan_study
from perfbench.spec.run import TrialSpec
from perfbench.spec.submission import PointSpace
from perfbench.spec.workload import ScaleName


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "what", nargs="*", metavar="workloads | submissions | KEY=VALUE", help="nothing shows the default configuration"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a table of workloads or submissions, or the configuration that overrides compose."""
    console = Console(soft_wrap=True)
    if arguments.what == ["workloads"]:
        print_listing(console, _workloads())
    elif arguments.what == ["submissions"]:
        print_listing(console, _submissions())
    else:
        request = compose_run(arguments.what)
        console.print_json(request.to_json())
        print_listing(console, _points(plan_study(request)))
    return int(ExitCode.DONE)


def _points(trials: Sequence[TrialSpec]) -> Listing:
    """Return the hyperparameters of a study's trials, exactly as they will run."""
    study, seed = trials[0].study, trials[0].run_seed
    table = Listing(["trial", "hyperparameters"], f"study {study} of run seed {seed}: {len(trials)} trial(s)")
    for trial in trials:
        point = trial.hyperparameters
        shown = "none: it tunes itself" if point is None else ", ".join(f"{k}={v}" for k, v in point.items())
        table.add(str(trial.trial), escape(shown))
    return table


def _workloads() -> Listing:
    header = ["workload", "scale", "data", "target", "budget", "steps", "what it is"]
    table = Listing(header, right=frozenset({"budget", "steps"}))
    for name in choices("workload"):
        for scale in ScaleName:
            spec = compose_workload(name, scale=scale.value)
            targets = ", ".join(
                f"{kind.value} {target.metric} {target.threshold:g}" for kind, target in spec.targets.items()
            )
            budget = f"{spec.max_submission_time_s:,.0f} s"
            steps = f"{spec.step_hint:,}"
            table.add(name, scale.value, spec.dataset, targets, budget, steps, escape(spec.description))
    return table


def _submissions() -> Listing:
    table = Listing(["submission", "rulesets", "search space", "what it is"])
    for name in choices("submission"):
        spec = compose_submission(name)
        space = spec.search_space
        if space is None:
            shown = "-"
        elif isinstance(space, PointSpace):
            shown = f"{len(space.points)} points"
        else:
            shown = f"{len(space.dimensions)} dimensions"
        table.add(name, ", ".join(spec.rulesets), shown, escape(spec.description))
    return table
