"""``perfbench report``: one page, and its figures as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from perfbench.cli.score import add_input_arguments, read_asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from perfbench.cli.boards import ReadBoards
    from perfbench.results.trials import RecordedTrial, TrialLog
    from perfbench.scoring.board import Board
    from perfbench.scoring.report import ReportedBoard, SmallerSection

_NUM_SAMPLES = 200
"""For the intervals of smaller boards: `perfbench subsets` has more."""
_MOST_SUBMISSIONS = 24
"""Smaller boards of more take longer than the report itself."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_input_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the page goes (default: PATH/report)")
    parser.add_argument("--no-pictures", action="store_true", help="write the page only")
    parser.add_argument("--no-subsets", action="store_true", help="leave out what smaller boards are worth")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and its figures, and say where they are."""
    from rich.console import Console

    from perfbench.cli.boards import input_paths, print_complaints, print_recognised
    from perfbench.errors import ExitCode

    console = Console(soft_wrap=True)
    paths = input_paths(arguments.paths)
    with console.status("reading and judging trials"):
        read = read_asked(arguments, paths)
    print_recognised(console, read)
    print_complaints(console, read.complaints)
    folder = arguments.out or (paths[0] if paths[0].is_dir() else paths[0].parent) / "report"
    write_report(console, read, folder, with_pictures=not arguments.no_pictures, with_subsets=not arguments.no_subsets)
    return int(ExitCode.DONE)


def write_report(
    console: Console, read: ReadBoards, folder: Path, *, with_pictures: bool, with_subsets: bool = False
) -> None:
    """Write the page of all boards, with its figures as pictures if wanted, and say where it is.

    Raises:
        ScoringError: If the folder cannot be written.
    """
    from rich.markup import escape

    from perfbench.errors import ScoringError, printable
    from perfbench.results.files import atomic_file
    from perfbench.scoring.report import ReportedBoard, report_page
    from perfbench.scoring.uncertainty import bootstrap

    with console.status("drawing"):
        boards = [
            ReportedBoard(board, bootstrap(board), logs, _smaller(board, logs) if with_subsets else None)
            for board, logs in zip(read.boards, read.logs, strict=True)
        ]
        contents = {"index.html": report_page(boards, read.recorded, read.complaints, folder=folder).encode()}
        if with_pictures:
            contents |= _pictures(boards, read.recorded)
    try:
        (folder / "figures" if with_pictures else folder).mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            with atomic_file(folder / name) as file:
                file.write(content)
    except OSError as problem:
        raise ScoringError(
            f"the report cannot be written: {problem.strerror}", where=str(folder), hint="choose a folder with --out"
        ) from None
    kilobytes = len(contents["index.html"]) / 2**10
    pictures = f", {len(contents) - 1} pictures in figures/" if len(contents) > 1 else ""
    page = escape(printable(folder / "index.html"))
    console.print(f"report of {read.num_trials} trials: [bold]{page}[/] ({kilobytes:,.0f} KB){pictures}")


def _smaller(board: Board, logs: Sequence[TrialLog]) -> SmallerSection | None:
    """Ask what smaller boards are worth; nothing where it has too few or too many submissions or workloads."""
    from perfbench.cli.subsets import smaller_boards_of
    from perfbench.errors import ScoringError
    from perfbench.scoring.report import SmallerSection
    from perfbench.scoring.report_data import front_data
    from perfbench.scoring.subset_tables import tables

    if len(board.submissions) > _MOST_SUBMISSIONS:
        return None
    try:
        found = smaller_boards_of(board, logs, num_samples=_NUM_SAMPLES)
    except ScoringError:
        return None
    return SmallerSection(tables(found), front_data(found.subsets))


def _pictures(boards: list[ReportedBoard], recorded: tuple[RecordedTrial, ...]) -> dict[str, bytes]:
    from perfbench.scoring.accounting import time_accounting, trials_of
    from perfbench.scoring.files import slug
    from perfbench.scoring.plot import (
        accounting_figure,
        as_png,
        as_svg,
        curves_figure,
        heat_figure,
        profile_figure,
    )
    from perfbench.scoring.report_data import curves

    made = {}
    for one in boards:
        stem = f"figures/{slug(one.board.benchmark.name)}"
        figures = {
            "profile": profile_figure(one.board),
            "heat": heat_figure(one.board),
            "curves": curves_figure(one.board, curves(one.board, one.logs)),
        }
        accounting = time_accounting(one.board, trials_of(one.logs, recorded))
        if accounting:
            figures["accounting"] = accounting_figure(accounting)
        for name, figure in figures.items():
            made[f"{stem}_{name}.svg"] = as_svg(figure)
            made[f"{stem}_{name}.png"] = as_png(figure)
    return made
