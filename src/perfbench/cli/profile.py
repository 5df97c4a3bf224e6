"""``perfbench profile WORKLOAD SUBMISSION``: where the time of a step goes, as a table and as a trace for Perfetto."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from perfbench.launch.profiling import StepProfile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("workload")
    parser.add_argument("submission")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as for run, e.g. trial=2 hp.learning_rate=1e-3"
    )
    parser.add_argument("--steps", type=int, default=20, help="timed, and as many traced")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before, not counted: compiling happens there")
    parser.add_argument("--no-compile", action="store_true", help="profile the model as it is written")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="default: runs/profiles/WORKLOAD_SUBMISSION.json")
    parser.add_argument("--json", action="store_true", help="the numbers as JSON, and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Profile, print the table, and say where the trace is."""
    import dataclasses

    from rich.console import Console

    from perfbench.cli.progress import data_progress
    from perfbench.compose import compose_run
    from perfbench.errors import ConfigError, ExitCode
    from perfbench.launch.plan import plan_trial
    from perfbench.launch.preflight import check_trial

    for name in ("steps", "warm_up"):
        if getattr(arguments, name) < 1:
            raise ConfigError(
                f"must be at least 1, got {getattr(arguments, name)}", where=f"--{name.replace('_', '-')}"
            )
    console = Console(soft_wrap=True, quiet=arguments.json)
    names = [f"workload={arguments.workload}", f"submission={arguments.submission}"]
    request = compose_run([*names, "cluster.nproc_per_node=1", *arguments.overrides])
    trial = plan_trial(request)
    with data_progress(console) as progress:
        check_trial(trial, Path(request.runs_root), progress)
    from perfbench.launch.profiling import profile_steps

    trace = arguments.trace or Path("runs/profiles") / f"{trial.workload.name}_{trial.submission.name}.json"
    trace.parent.mkdir(parents=True, exist_ok=True)
    with console.status("compiling and profiling"):
        found = profile_steps(
            trial,
            num_steps=arguments.steps,
            num_warmup=arguments.warm_up,
            compiles=not arguments.no_compile,
            trace=trace,
        )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found) | {"trace": str(trace)}, indent=2))  # noqa: T201 - the output
        return int(ExitCode.DONE)
    _print(console, found, trial.label())
    console.print(f"trace: {trace}   open it at https://ui.perfetto.dev")
    return int(ExitCode.DONE)


def _print(console: Console, found: StepProfile, label: str) -> None:
    """Print the parts of a step and the operators that take most; of all traced steps together."""
    from perfbench.cli.listing import Listing, print_listing

    total_ms = sum(found.part_ms.values()) or 1.0
    console.print(
        f"{label}, on {found.device}: {found.step_ms:.2f} ms a step ({1000 / found.step_ms:,.1f} steps/s), "
        f"first steps with compiling {found.compile_s:.1f} s"
    )
    parts = Listing(["part of a step", "ms", "share"], right=frozenset({"ms", "share"}))
    for name, part_ms in found.part_ms.items():
        parts.add(name, f"{part_ms:.3f}", f"{part_ms / total_ms:.0%}")
    print_listing(console, parts)
    numbers = ("calls", "host ms", "device ms")
    operators = Listing(["operator", *numbers], right=frozenset(numbers))
    for one in found.operators:
        operators.add(
            one.name[:60].replace("[", "\\["), f"{one.num_calls:,}", f"{one.host_ms:.2f}", f"{one.device_ms:.2f}"
        )
    print_listing(console, operators)
