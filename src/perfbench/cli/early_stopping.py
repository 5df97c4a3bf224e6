"""``perfbench early-stopping``: how early trials on record could have been told to miss their target."""

from __future__ import annotations

import argparse
from pathlib import Path

from perfbench.cli.score import add_input_arguments, read_asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_input_arguments(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table as CSV")


def run(arguments: argparse.Namespace) -> int:
    """Judge the rule on every board and print what it saves and spoils."""
    from rich.console import Console

    from perfbench.cli.boards import input_paths, print_complaints, print_recognised, print_tables
    from perfbench.errors import ExitCode
    from perfbench.scoring.early_stopping import Curves, early_stopping, saved_without_error
    from perfbench.scoring.files import write_contents
    from perfbench.scoring.subset_tables import stopping_table
    from perfbench.scoring.tables import as_csv

    console = Console(soft_wrap=False)
    with console.status("reading and judging trials"):
        read = read_asked(arguments, input_paths(arguments.paths))
    print_recognised(console, read)
    tables = []
    with console.status("trying the rule at every share of the budget"):
        for board, logs in zip(read.boards, read.logs, strict=True):
            free = saved_without_error(Curves.of(board, logs))
            tables.append(stopping_table(early_stopping(board, logs), free))
    print_tables(console, tables)
    print_complaints(console, read.complaints)
    if arguments.csv is not None:
        text = "".join(as_csv(table) for table in tables)
        write_contents(arguments.csv.parent, {arguments.csv.name: text.encode()})
    return int(ExitCode.DONE)
