"""``perfbench table``: trials as rows, with their hyperparameters; which rate won has its answer in the first row."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from perfbench.cli.listing import Listing
    from perfbench.scoring.overview import TrialRow

_OUTCOMES = {"reached": "green", "crashed": "red", "diverged": "red", "unfinished": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="folders with trials, at any depth (default: runs)"
    )
    parser.add_argument("--all-columns", action="store_true", help="also hyperparameters that do not differ")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all columns as CSV; - for standard output")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="write all columns as parquet")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or write it."""
    from rich.console import Console

    from perfbench.cli.boards import input_paths, print_complaints, read_own_trials
    from perfbench.cli.listing import print_listing
    from perfbench.errors import ExitCode
    from perfbench.scoring.overview import frame, rows_of

    reading = read_own_trials(input_paths(arguments.paths))
    rows = rows_of(reading.trials)
    console = Console(soft_wrap=False, stderr=str(arguments.csv) == "-")
    if arguments.csv is None and arguments.parquet is None:
        print_listing(console, table_of(rows, all_columns=arguments.all_columns))
    if arguments.csv is not None:
        _write(arguments.csv, frame(rows).write_csv().encode(), console)
    if arguments.parquet is not None:
        _write(arguments.parquet, _parquet(rows), console)
    print_complaints(console, reading.complaints)
    return int(ExitCode.DONE)


def table_of(rows: Sequence[TrialRow], *, all_columns: bool) -> Listing:
    """Return the table for people: only what differs, unless asked for all."""
    from rich.markup import escape

    from perfbench.cli.listing import Listing, short
    from perfbench.scoring.overview import hyperparameter_names, varying

    names = hyperparameter_names(rows) if all_columns else varying(rows)
    has_seeds = len({row.seed for row in rows}) > 1
    has_scales = len({row.scale for row in rows}) > 1
    first = ["submission", "workload", *(["scale"] if has_scales else [])]
    seed = ["seed"] if has_seeds else []
    last = ["outcome", "steps", "metric", "best", "time to target", "steps/s"]
    numbers = frozenset({*names, "seed", "steps", "best", "time to target", "steps/s"})
    listing = Listing([*first, "trial", *seed, *names, *last, "folder"], right=numbers)
    for row in rows:
        colour = _OUTCOMES.get(row.outcome, "default")
        listing.add(
            *(getattr(row, column) for column in first),
            escape(row.name),
            *([str(row.seed)] if has_seeds else []),
            *(escape(short(row.hyperparameters.get(name, ""))) for name in names),
            f"[{colour}]{row.outcome.replace('_', ' ')}[/]",
            f"{row.num_steps:,}",
            row.metric,
            "" if row.best_metric is None else f"{row.best_metric:.5f}",
            f"{row.time_s:,.1f} s" if row.is_reached else "",
            "" if row.steps_per_s is None else f"{row.steps_per_s:,.1f}",
            escape(str(row.path)),
        )
    return listing


def _parquet(rows: Sequence[TrialRow]) -> bytes:
    import io

    from perfbench.scoring.overview import frame

    content = io.BytesIO()
    frame(rows).write_parquet(content)
    return content.getvalue()


def _write(path: Path, content: bytes, console: Console) -> None:
    import sys

    from perfbench.errors import ResultsError
    from perfbench.results.files import atomic_file

    if str(path) == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    try:
        with atomic_file(path) as file:
            file.write(content)
    except OSError as problem:
        raise ResultsError(f"cannot be written: {problem.strerror}", where=str(path)) from None
    console.print(f"wrote {path}", soft_wrap=True)
