"""``perfbench subsets``: which part of a board tells its ranking, at what cost, and whether that can be believed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from perfbench.cli.score import add_input_arguments, read_asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfbench.cli.boards import ReadBoards
    from perfbench.results.trials import TrialLog
    from perfbench.scoring.board import Board
    from perfbench.scoring.subset_tables import SmallerBoards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_input_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the files go (default: PATH/subsets)")
    parser.add_argument("--bootstraps", type=int, default=1000, metavar="N", help="samples over studies (1000)")
    parser.add_argument(
        "--no-held-out", action="store_true", help="compare with the board as it would be without held-out variants"
    )
    parser.add_argument("--no-pictures", action="store_true", help="do not draw the front")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="also write what `sweep --dry-run` says of a part of this board"
    )


def run(arguments: argparse.Namespace) -> int:
    """Analyse, print the tables and write them."""
    from rich.console import Console
    from rich.markup import escape

    from perfbench.cli.boards import input_paths, print_complaints, print_recognised, print_tables
    from perfbench.errors import ExitCode, printable
    from perfbench.scoring.subset_tables import tables

    console = Console(soft_wrap=False)
    paths = input_paths(arguments.paths)
    with console.status("reading and judging trials"):
        read = read_asked(arguments, paths)
    print_recognised(console, read)
    with console.status("comparing every subset with the whole"):
        found = analyse(read, num_samples=arguments.bootstraps, held_out=not arguments.no_held_out)
    for boards in found:
        print_tables(console, tables(boards))
    print_complaints(console, read.complaints)
    folder = arguments.out or (paths[0] if paths[0].is_dir() else paths[0].parent) / "subsets"
    with console.status("drawing and writing"):
        files = _write(folder, found, with_pictures=not arguments.no_pictures)
    if arguments.record is not None:
        from perfbench.scoring.agreement_record import record_of
        from perfbench.scoring.files import write_contents

        files += write_contents(arguments.record.parent, {arguments.record.name: record_of(found[0]).to_lines()})
    names = ", ".join(file.name for file in files)
    console.print(f"wrote {names} to [bold]{escape(printable(folder))}[/]", soft_wrap=True)
    return int(ExitCode.DONE)


def analyse(read: ReadBoards, *, num_samples: int, held_out: bool = True) -> list[SmallerBoards]:
    """Ask every board that has enough submissions and workloads.

    Args:
        read: Boards and their logs.
        num_samples: Bootstrap samples over studies.
        held_out: Whether held-out variants count as the rules say, or not at all.

    Raises:
        ScoringError: If none has.
    """
    from perfbench.errors import ScoringError

    found, problems = [], []
    for board, logs in zip(read.boards, read.logs, strict=True):
        try:
            asked = board if held_out else without_held_out(board, logs)
            found.append(smaller_boards_of(asked, logs, num_samples=num_samples))
        except ScoringError as problem:
            problems.append(problem)
    if not found:
        raise problems[0]
    return found


def smaller_boards_of(board: Board, logs: Sequence[TrialLog], *, num_samples: int) -> SmallerBoards:
    """Ask one board.

    Raises:
        ScoringError: If it has too few submissions or too many workloads.
    """
    from perfbench.scoring.fewer_trials import best_designs, smaller_boards
    from perfbench.scoring.subset_front import analyse_subsets
    from perfbench.scoring.subset_tables import SmallerBoards
    from perfbench.scoring.subsets import TrialTimes

    times = TrialTimes.of(board, logs)
    analysis = analyse_subsets(times, num_samples=num_samples)
    return SmallerBoards(analysis, tuple(smaller_boards(times)), tuple(best_designs(times)))


def without_held_out(board: Board, logs: Sequence[TrialLog]) -> Board:
    """Score again as if there were no held-out variants.

    Raises:
        ScoringError: If nothing is left.
    """
    from perfbench.scoring.board import leaderboard

    rules = board.benchmark
    bases = {name: facts for name, facts in rules.workloads.items() if facts.base is None}
    scoring = rules.scoring.model_copy(update={"held_out_required": False})
    name = f"{rules.name}, without held-out variants"
    changed = rules.model_copy(update={"workloads": bases, "scoring": scoring, "name": name})
    return leaderboard([log for log in logs if log.key in board.ends], changed)


def _write(folder: Path, found: list[SmallerBoards], *, with_pictures: bool) -> list[Path]:
    from perfbench.scoring.files import slug, write_contents
    from perfbench.scoring.subset_tables import as_json, every_subset_table, tables
    from perfbench.scoring.tables import as_csv, as_markdown

    contents: dict[str, bytes] = {
        "subsets.md": "\n".join(as_markdown(table) for boards in found for table in tables(boards)).encode(),
        "subsets.json": as_json(found).encode(),
    }
    for boards in found:
        stem = f"_{slug(boards.subsets.times.benchmark.name)}" if len(found) > 1 else ""
        contents[f"subsets{stem}.csv"] = as_csv(every_subset_table(boards.subsets)).encode()
        if with_pictures:
            from perfbench.scoring.plot import as_png, as_svg, front_figure

            figure = front_figure(boards.subsets)
            contents |= {f"front{stem}.svg": as_svg(figure), f"front{stem}.png": as_png(figure)}
    return write_contents(folder, contents)
