"""What score, report and verify share: paths to boards, and boards to the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from perfbench.errors import ResultsError
from perfbench.results.benchmark import Benchmark, benchmark_of, split_by_setting
from perfbench.results.reader import read_trials
from perfbench.results.trials import Complaint, Reading, RecordedTrial, TrialLog
from perfbench.scoring.board import Board, leaderboard
from perfbench.scoring.tables import Table, comparison_table, score_table, time_table
from perfbench.scoring.uncertainty import Uncertainty

_DEFAULT_PATH = Path("runs")


@dataclass(frozen=True, slots=True)
class ReadBoards:
    """Boards and what they were made from."""

    boards: tuple[Board, ...]
    logs: tuple[tuple[TrialLog, ...], ...]
    """By board."""
    recorded: tuple[RecordedTrial, ...]
    """Our own trial folders without explored ones; empty for published logs."""
    complaints: tuple[Complaint, ...]

    @property
    def num_trials(self) -> int:
        """Return how many trials were judged."""
        return sum(len(board.ends) for board in self.boards)


def input_paths(paths: Sequence[Path]) -> list[Path]:
    """Return the paths, or the default one."""
    return list(paths) or [_DEFAULT_PATH]


def read_boards(paths: Sequence[Path], *, benchmark: str | None, as_published: bool) -> ReadBoards:
    """Read trials and score them: one board per setting that may be compared.

    Raises:
        ResultsError: If there is no trial, or a path does not exist.
        ScoringError: If no trial can be scored.
    """
    if benchmark is not None:
        return _published_boards(paths, benchmark, as_published=as_published)
    reading = read_own_trials(paths)
    complaints = list(reading.complaints)
    if all(trial.spec.explored for trial in reading.trials):
        raise ResultsError(
            f"all {len(reading.trials)} trials here are explored: never scored",
            where=", ".join(map(str, paths)),
            hint="`perfbench table` lists them with what came of them",
        )
    boards, logs = [], []
    for name, trials in split_by_setting(reading.trials).items():
        derived, kept = benchmark_of(name, trials, complaints)
        logs.append(tuple(trial.log() for trial in kept))
        boards.append(leaderboard(logs[-1], derived, as_published=as_published))
    scored = tuple(trial for trial in reading.trials if trial.spec.explored is None)
    return ReadBoards(tuple(boards), tuple(logs), scored, tuple(complaints))


def read_own_trials(paths: Sequence[Path]) -> Reading:
    """Read trial folders.

    Raises:
        ResultsError: If there is none.
    """
    reading = read_trials(paths)
    if not reading.trials:
        problems = "".join(f"\n  - {complaint}" for complaint in reading.complaints)
        raise ResultsError(
            "no trial folder found" + problems,
            where=", ".join(map(str, paths)),
            hint="`perfbench run` makes one; for published AlgoPerf logs add --benchmark algoperf_v05",
        )
    return reading


def _published_boards(paths: Sequence[Path], name: str, *, as_published: bool) -> ReadBoards:
    from perfbench.results.algoperf import read_algoperf_logs

    benchmark = load_benchmark(name)
    logs, complaints = read_algoperf_logs(paths, benchmark)
    board = leaderboard(logs, benchmark, as_published=as_published)
    return ReadBoards((board,), (tuple(logs),), (), tuple(complaints))


def load_benchmark(name: str) -> Benchmark:
    """Read a benchmark from ``configs/benchmark/<name>.yaml`` or from a YAML file.

    Raises:
        ResultsError: If there is no such benchmark.
        ConfigError: If its file is not one.
    """
    import yaml

    from perfbench.errors import ConfigError, nearest_name_hint
    from perfbench.registry import repository_root

    folder = repository_root() / "configs" / "benchmark"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in folder.glob("*.yaml")]
        raise ResultsError(
            f"no benchmark named {name!r}", where=str(path), hint=nearest_name_hint(name, known, kind="benchmarks")
        )
    # The safe loader written in C is ten times faster, where PyYAML was built with it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        plain = yaml.load(path.read_text(), Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise ConfigError(f"not YAML: {problem}", where=str(path)) from None
    if not isinstance(plain, dict):
        raise ConfigError("not a mapping", where=str(path))
    return Benchmark.from_mapping(plain, where=path.name)


def print_board(console: Console, board: Board, uncertainty: Uncertainty | None, extra: Sequence[Table] = ()) -> None:
    """Print the leaderboard, the times, and every warning."""
    tables = [score_table(board, uncertainty), time_table(board)]
    if 1 < len(board.submissions) <= 3:  # noqa: PLR2004 - more pairs than a terminal is read for
        tables.append(comparison_table(board))
    tables.extend(extra)
    for table in tables:
        for part in parts_that_fit(table, console.width):
            console.print(rich_table(part))
        if table.caption:
            console.print(f"[dim]{escape(table.caption)}[/]\n", soft_wrap=True)
    for warning in board.warnings:
        console.print(f"[yellow]warning[/]: {escape(warning)}", soft_wrap=True)


def print_complaints(console: Console, complaints: Sequence[Complaint]) -> None:
    """Print what was wrong on disk, one line per kind; the JSON file names every file."""
    kinds: dict[tuple[bool, str], list[Complaint]] = {}
    for complaint in complaints:
        kinds.setdefault((complaint.is_harmless, re.sub(r"\d+", "#", complaint.what)), []).append(complaint)
    for (is_harmless, _), alike in sorted(kinds.items()):
        colour, word = ("dim", "note") if is_harmless else ("yellow", "warning")
        others = f" (and {len(alike) - 1} more like it)" if len(alike) > 1 else ""
        console.print(f"[{colour}]{word}[/]: {escape(str(alike[0]))}{others}", soft_wrap=True)


def parts_that_fit(table: Table, width: int) -> list[Table]:
    """Split a table that is wider than the terminal; every part begins with the column of names."""
    padding = 3
    columns = list(zip(table.header, *table.rows, strict=True))
    # A heading breaks at its underscores; a cell must stay whole to be read.
    widths = [max(map(len, (*name.split("_"), *cells))) + padding for name, *cells in columns]
    widths[0] = max(map(len, columns[0])) + padding
    parts: list[list[int]] = [[]]
    for column, needed in enumerate(widths[1:], start=1):
        used = widths[0] + 1 + sum(widths[other] for other in parts[-1])
        if parts[-1] and used + needed > width:
            parts.append([])
        parts[-1].append(column)
    rows = [table.header, *table.rows]
    chosen = [[(row[0], *(row[column] for column in part)) for row in rows] for part in parts]
    return [Table(table.title, part[0], tuple(part[1:])) for part in chosen]


def rich_table(table: Table) -> RichTable:
    """Return a table for the terminal."""
    shown = RichTable(title=table.title, title_justify="left")
    for number, name in enumerate(table.header):
        shown.add_column(
            name.replace("_", " ") if number else name, justify="right" if number else "left", no_wrap=not number
        )
    for row in table.rows:
        shown.add_row(*(escape(cell) for cell in row))
    return shown
