"""What score, report and verify share: paths to boards, and boards to the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from perfbench.errors import ResultsError
from perfbench.results.benchmark import Benchmark, benchmark_of, split_by_setting
from perfbench.results.reader import read_trials
from perfbench.results.trials import Complaint, RecordedTrial, TrialLog
from perfbench.scoring.board import Board, leaderboard
from perfbench.scoring.tables import Table, comparison_table, score_table, time_table
from perfbench.scoring.uncertainty import Uncertainty

_DEFAULT_PATH = Path("runs")
_MOST_COMPLAINTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ReadBoards:
    """Boards and what they were made from."""

    boards: tuple[Board, ...]
    logs: tuple[tuple[TrialLog, ...], ...]
    """By board."""
    recorded: tuple[RecordedTrial, ...]
    """Our own trial folders; empty for published logs."""
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
    reading = read_trials(paths)
    if not reading.trials:
        problems = "".join(f"\n  - {complaint}" for complaint in reading.complaints)
        raise ResultsError(
            "no trial folder found" + problems,
            where=", ".join(map(str, paths)),
            hint="`perfbench run` makes one; for published AlgoPerf logs add --benchmark algoperf_v05",
        )
    complaints = list(reading.complaints)
    boards, logs = [], []
    for name, trials in split_by_setting(reading.trials).items():
        derived, kept = benchmark_of(name, trials, complaints)
        logs.append(tuple(trial.log() for trial in kept))
        boards.append(leaderboard(logs[-1], derived, as_published=as_published))
    return ReadBoards(tuple(boards), tuple(logs), tuple(reading.trials), tuple(complaints))


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
    import yaml  # type: ignore[import-untyped] # PyYAML ships no types

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


def print_board(console: Console, board: Board, uncertainty: Uncertainty | None) -> None:
    """Print the leaderboard, the times, and every warning."""
    tables = [score_table(board, uncertainty), time_table(board)]
    if 1 < len(board.submissions) <= 3:  # noqa: PLR2004 - more pairs than a terminal is read for
        tables.append(comparison_table(board))
    for table in tables:
        console.print(rich_table(table))
        if table.caption:
            console.print(f"[dim]{escape(table.caption)}[/]\n", soft_wrap=True)
    for warning in board.warnings:
        console.print(f"[yellow]warning[/]: {escape(warning)}", soft_wrap=True)


def print_complaints(console: Console, complaints: Sequence[Complaint]) -> None:
    """Print what was wrong on disk; the JSON file has all of it where this stops."""
    for complaint in complaints[:_MOST_COMPLAINTS_SHOWN]:
        colour, word = ("dim", "note") if complaint.is_harmless else ("yellow", "warning")
        console.print(f"[{colour}]{word}[/]: {escape(str(complaint))}", soft_wrap=True)
    hidden = len(complaints) - _MOST_COMPLAINTS_SHOWN
    if hidden > 0:
        console.print(f"[yellow]warning[/]: {hidden} more like these; leaderboard.json lists all")


def rich_table(table: Table) -> RichTable:
    """Return a table for the terminal."""
    shown = RichTable(title=table.title, title_justify="left")
    for number, name in enumerate(table.header):
        shown.add_column(name.replace("_", " ") if number else name, justify="right" if number else "left")
    for row in table.rows:
        shown.add_row(*(escape(cell) for cell in row))
    return shown
