"""``perfbench export``: trial folders in the AlgoPerf form."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="folders with trials, at any depth")
    parser.add_argument(
        "--algoperf", action="store_true", help="in AlgoPerf's form (the only one, so it may be left out)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="root of the tree that is written")
    parser.add_argument(
        "--benchmark", default="algoperf_v05", metavar="NAME", help="whose names workloads get (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the logs and say how many."""
    from rich.console import Console
    from rich.markup import escape

    from perfbench.cli.boards import load_benchmark, print_complaints, read_own_trials
    from perfbench.errors import ExitCode, printable
    from perfbench.results.export import export_algoperf_logs

    console = Console(soft_wrap=True)
    benchmark = load_benchmark(arguments.benchmark)
    reading = read_own_trials(arguments.paths)
    print_complaints(console, reading.complaints)
    out = escape(printable(arguments.out))
    trials = [trial for trial in reading.trials if trial.spec.explored is None]  # the form has no place for others
    files = export_algoperf_logs(trials, arguments.out, benchmark.exported_names)
    console.print(f"{len(files)} logs of {len(trials)} trials written to [bold]{out}[/]")
    return int(ExitCode.DONE)
