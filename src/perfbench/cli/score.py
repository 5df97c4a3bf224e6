"""``perfbench score``: trial folders to a leaderboard."""

from __future__ import annotations

import argparse
from pathlib import Path

_FEW_TRIALS = 12
"""So few that a person wants to see each of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_input_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the files go (default: PATH/score)")
    parser.add_argument("--strict", action="store_true", help="refuse partial results and unreadable records")
    parser.add_argument(
        "--sensitivity", action="store_true", help="show how ranks depend on target, budget, tau_max and workloads"
    )
    parser.add_argument("--no-pictures", action="store_true", help="do not draw the performance profile")


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is read: the same for score, report and verify."""
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="folders with trials, at any depth (default: runs)"
    )
    parser.add_argument(
        "--benchmark",
        metavar="NAME",
        help="read published AlgoPerf logs, and score them as configs/benchmark/NAME.yaml says (or a YAML file)",
    )
    parser.add_argument(
        "--as-published", action="store_true", help="follow the published board where it departs from the rules"
    )


def run(arguments: argparse.Namespace) -> int:
    """Score, print the tables and write them; 1 where ``--strict`` refuses."""
    from rich.console import Console

    from perfbench.cli.boards import input_paths, print_board, print_complaints, read_boards
    from perfbench.errors import ExitCode
    from perfbench.scoring.files import write_boards
    from perfbench.scoring.sensitivity import sensitivity, sensitivity_table
    from perfbench.scoring.tables import closest_table
    from perfbench.scoring.uncertainty import bootstrap

    console = Console(soft_wrap=False)
    paths = input_paths(arguments.paths)
    read = read_boards(paths, benchmark=arguments.benchmark, as_published=arguments.as_published)
    boards = [(board, bootstrap(board)) for board in read.boards]
    extra = []
    for (board, uncertainty), logs in zip(boards, read.logs, strict=True):
        ranks = [sensitivity_table(board, sensitivity(board, logs))] if arguments.sensitivity else []
        few = [closest_table(board, logs)] if len(board.ends) <= _FEW_TRIALS else []
        print_board(console, board, uncertainty, [*ranks, *few])
        extra.append(ranks)
    print_complaints(console, read.complaints)
    reasons = [warning for board in read.boards for warning in board.warnings]
    reasons += [str(complaint) for complaint in read.complaints if not complaint.is_harmless]
    if arguments.strict and reasons:
        console.print(f"[bold red]refused[/]: --strict, and {len(reasons)} warnings stand above; nothing was written")
        return int(ExitCode.RUN_FAILED)
    folder = arguments.out or default_folder(paths)
    complaints = [str(complaint) for complaint in read.complaints]
    pictures = not arguments.no_pictures
    files = write_boards(folder, boards, complaints, with_pictures=pictures, extra_tables=extra, logs=read.logs)
    partial = f"[yellow]partial: {len(reasons)} warnings above[/]; " if reasons else ""
    names = ", ".join(file.name for file in files)
    judged = "1 trial" if read.num_trials == 1 else f"{read.num_trials} trials"
    console.print(f"{partial}{judged} judged; wrote {names} to [bold]{folder}[/]", soft_wrap=True)
    return int(ExitCode.DONE)


def default_folder(paths: list[Path]) -> Path:
    """Return where the files go unless told: beside the first trials."""
    first = paths[0]
    return (first if first.is_dir() else first.parent) / "score"
