"""``perfbench score``: trial folders to a leaderboard."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfbench.cli.boards import ReadBoards

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
        help="score published AlgoPerf logs as configs/benchmark/NAME.yaml says, or a YAML file (default: as the one "
        "that they fit)",
    )
    parser.add_argument(
        "--as-published", action="store_true", help="follow the published board where it departs from the rules"
    )
    parser.add_argument(
        "--only", default="", metavar="NAMES", help="these submissions or workloads, separated by commas"
    )
    parser.add_argument("--exclude", default="", metavar="NAMES", help="without these submissions or workloads")
    parser.add_argument(
        "--common", action="store_true", help="by the workloads alone that all submissions have finished"
    )
    parser.add_argument(
        "--provisional", action="store_true", help="count trials that are not over as what they have measured so far"
    )
    parser.add_argument(
        "--attested", action="store_true", help="count only trials whose submission was confined (isolation=sandbox)"
    )
    parser.add_argument("--trust", action="store_true", help="count trials whose records contradict themselves, too")


def read_asked(arguments: argparse.Namespace, paths: list[Path]) -> ReadBoards:
    """Read and score what the arguments ask for.

    Raises:
        PerfbenchError: As ``read_boards``.
    """
    from perfbench.cli.boards import read_boards
    from perfbench.scoring.selection import Selection

    selection = Selection(
        only=_names(arguments.only),
        exclude=_names(arguments.exclude),
        common=arguments.common,
        provisional=arguments.provisional,
    )
    return read_boards(
        paths,
        benchmark=arguments.benchmark,
        as_published=arguments.as_published,
        selection=selection,
        trust=arguments.trust,
        attested=arguments.attested,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run(arguments: argparse.Namespace) -> int:
    """Score, print the tables and write them; 1 where ``--strict`` refuses."""
    from rich.console import Console
    from rich.markup import escape

    from perfbench.cli.boards import input_paths, print_board, print_complaints, print_recognised
    from perfbench.errors import ExitCode, printable
    from perfbench.scoring.files import write_boards
    from perfbench.scoring.sensitivity import sensitivity, sensitivity_table
    from perfbench.scoring.tables import closest_table
    from perfbench.scoring.uncertainty import bootstrap

    console = Console(soft_wrap=False)
    paths = input_paths(arguments.paths)
    with console.status("reading and judging trials"):
        read = read_asked(arguments, paths)
        boards = [(board, bootstrap(board)) for board in read.boards]
    print_recognised(console, read)
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
    with console.status("drawing and writing"):
        files = write_boards(folder, boards, complaints, with_pictures=pictures, extra_tables=extra, logs=read.logs)
    partial = f"[yellow]partial: {len(reasons)} warnings above[/]; " if reasons else ""
    names = ", ".join(file.name for file in files)
    judged = "1 trial" if read.num_trials == 1 else f"{read.num_trials} trials"
    console.print(f"{partial}{judged} judged; wrote {names} to [bold]{escape(printable(folder))}[/]", soft_wrap=True)
    return int(ExitCode.DONE)


def default_folder(paths: list[Path]) -> Path:
    """Return where the files go unless told: beside the first trials."""
    first = paths[0]
    return (first if first.is_dir() else first.parent) / "score"
