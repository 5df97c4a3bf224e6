"""What score, report and verify share: paths to boards, and boards to the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from perfbench.errors import ResultsError, ScoringError, printable
from perfbench.results.benchmark import Benchmark, benchmark_of, split_by_setting
from perfbench.results.reader import read_trials
from perfbench.results.trials import Complaint, Reading, RecordedTrial, TrialLog
from perfbench.scoring.board import Board, leaderboard
from perfbench.scoring.selection import Selection, check_names
from perfbench.scoring.tables import Table, comparison_table, has_open_ends, score_table, state_table, time_table
from perfbench.scoring.uncertainty import Uncertainty
from perfbench.scoring.verify import contradictions
from perfbench.spec.environment import Isolation

_DEFAULT_PATH = Path("runs")
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class ReadBoards:
    """Boards and what they were made from."""

    boards: tuple[Board, ...]
    logs: tuple[tuple[TrialLog, ...], ...]
    """By board."""
    recorded: tuple[RecordedTrial, ...]
    """Our own trial folders without explored ones; empty for published logs."""
    complaints: tuple[Complaint, ...]
    recognised: str | None = None
    """The benchmark that published logs were found to belong to, where none was named."""

    @property
    def num_trials(self) -> int:
        """Return how many trials were judged."""
        return sum(len(board.ends) for board in self.boards)


@dataclass(frozen=True, slots=True)
class PublishedLogs:
    """Logs of a published board and its rules."""

    benchmark: Benchmark
    logs: tuple[TrialLog, ...]
    complaints: tuple[Complaint, ...]
    recognised: str | None


def input_paths(paths: Sequence[Path]) -> list[Path]:
    """Return the paths, or the default one."""
    return list(paths) or [_DEFAULT_PATH]


def read_boards(
    paths: Sequence[Path],
    *,
    benchmark: str | None,
    as_published: bool,
    selection: Selection | None = None,
    trust: bool = False,
    attested: bool = False,
) -> ReadBoards:
    """Read trials and score them: one board per setting that may be compared.

    Without trial folders of ours, published logs are scored by the one benchmark that they fit.

    Args:
        paths: Where to look.
        benchmark: Whose rules published logs are scored by.
        as_published: Follow the published board where it departs from the rules.
        selection: Of submissions, workloads and open studies; ``None`` for all finished ones.
        trust: Count trials whose records contradict themselves.
        attested: Count only trials whose submission was confined.

    Raises:
        ResultsError: If there is no trial, a path does not exist, or which benchmark logs belong to is not plain.
        ScoringError: If no trial can be scored.
    """
    chosen = selection or Selection()
    if (published := read_published(paths, benchmark)) is not None:
        check_names(chosen, published.logs, [published.benchmark])
        board, logs = _board(chosen, published.logs, published.benchmark, as_published=as_published)
        return ReadBoards((board,), (logs,), (), published.complaints, published.recognised)
    reading = read_own_trials(paths)
    complaints = list(reading.complaints)
    scored = [trial for trial in reading.trials if trial.spec.explored is None]
    if not scored:
        raise ResultsError(
            f"all {len(reading.trials)} trials here are explored: never scored",
            where=", ".join(map(str, paths)),
            hint="`perfbench table` lists them with what came of them",
        )
    trials = _believed(scored, complaints, trust=trust)
    trials = _attested(trials, complaints) if attested else trials
    settings = [benchmark_of(name, members, complaints) for name, members in split_by_setting(trials).items()]
    check_names(chosen, [trial.log() for trial in trials], [derived for derived, _ in settings])
    boards, logs_of_boards, problems = [], [], []
    for derived, kept in settings:
        try:
            board, logs = _board(chosen, [trial.log() for trial in kept], derived, as_published=as_published)
        except ScoringError as problem:  # nothing of this setting is finished, or wanted: other boards stand
            problems.append(problem)
            continue
        boards.append(board)
        logs_of_boards.append(logs)
    if not boards:
        raise problems[0]
    complaints += [Complaint(paths[0], f"no board: {problem}") for problem in problems]
    return ReadBoards(tuple(boards), tuple(logs_of_boards), tuple(trials), tuple(complaints))


def _board(
    selection: Selection, logs: Sequence[TrialLog], benchmark: Benchmark, *, as_published: bool
) -> tuple[Board, tuple[TrialLog, ...]]:
    kept, wanted = selection.of(logs, benchmark)
    board = leaderboard(
        kept, wanted, as_published=as_published, provisional=selection.provisional, common=selection.common
    )
    return board, tuple(kept)


def _believed(trials: Sequence[RecordedTrial], complaints: list[Complaint], *, trust: bool) -> list[RecordedTrial]:
    """Return the trials that count: not those that ``verify`` refuses, unless they are to be trusted, visibly.

    Raises:
        ScoringError: If none is left.
    """
    found = contradictions(trials)
    for path, findings in found.items():
        more = f" (and {len(findings) - 1} more findings)" if len(findings) > 1 else ""
        what = f"{findings[0].check}: {findings[0].what}{more}"
        word = "counted all the same (--trust)" if trust else "does not count"
        complaints.append(Complaint(path, f"{word}: {what}"))
    kept = [trial for trial in trials if trust or trial.path not in found]
    if not kept:
        raise ScoringError(
            f"none of {len(trials)} trials can be believed; the first: {next(iter(found.values()))[0]}",
            hint="`perfbench verify` names every finding; --trust counts them all the same",
        )
    return kept


def _attested(trials: Sequence[RecordedTrial], complaints: list[Complaint]) -> list[RecordedTrial]:
    """Return the trials whose submission was confined.

    Raises:
        ScoringError: If there is none.
    """
    kept = [trial for trial in trials if trial.isolation() is Isolation.SANDBOX]
    if not kept:
        raise ScoringError(
            f"none of {len(trials)} trials is attested", where="--attested", hint="run them with isolation=sandbox"
        )
    complaints += [
        Complaint(trial.path, "does not count (--attested): its submission was not confined")
        for trial in trials
        if trial.isolation() is not Isolation.SANDBOX
    ]
    return kept


def read_own_trials(paths: Sequence[Path]) -> Reading:
    """Read trial folders.

    Raises:
        ResultsError: If there is none.
    """
    reading = read_trials(paths)
    if not reading.trials:
        problems = "".join(f"\n  - {complaint}" for complaint in reading.complaints[:_SHOWN_PROBLEMS])
        raise ResultsError(
            "no trial folder found" + problems,
            where=", ".join(map(printable, paths)),
            hint="`perfbench run` makes one",
        )
    return reading


def read_published(paths: Sequence[Path], name: str | None) -> PublishedLogs | None:
    """Read published logs by a benchmark's rules; without its name, by those of the one that the logs fit.

    Returns:
        ``None`` where no name is given and there are trial folders of ours, or nothing.

    Raises:
        ResultsError: If a path or the benchmark does not exist, there is no log, or several benchmarks or none fit.
        ConfigError: If the benchmark's file is not one.
    """
    from perfbench.results.log_tree import find_logs

    tree = find_logs(paths, unless_ours=name is None)
    if name is None and (tree.has_own_trials or tree.is_empty()):
        return None

    from perfbench.results.algoperf import read_log_tree  # loads polars, which trials of ours do without
    from perfbench.results.benchmark_files import benchmark_names
    from perfbench.results.recognition import facts_of, misfits, recognised

    if name is not None:
        benchmark = load_benchmark(name)
        found = None
    else:
        known = {one: load_benchmark(one) for one in benchmark_names(_benchmark_folder())}
        found = recognised(tree, known)
        benchmark = known[found]
    logs, complaints = read_log_tree(tree, benchmark)
    facts = facts_of(tree, benchmark.name_suffixes)
    complaints += [
        Complaint(paths[0], f"does not fit {benchmark.name}: {problem}") for problem in misfits(facts, benchmark)
    ]
    return PublishedLogs(benchmark, tuple(logs), tuple(complaints), found)


def load_benchmark(name: str) -> Benchmark:
    """Read a benchmark from ``configs/benchmark/<name>.yaml`` or from a YAML file.

    Raises:
        ResultsError: If there is no such benchmark.
        ConfigError: If its file is not one.
    """
    from perfbench.results.benchmark_files import load_benchmark_file

    return load_benchmark_file(name, _benchmark_folder())


def _benchmark_folder() -> Path:
    from perfbench.registry import repository_root

    return repository_root() / "configs" / "benchmark"


def print_board(console: Console, board: Board, uncertainty: Uncertainty | None, extra: Sequence[Table] = ()) -> None:
    """Print the leaderboard, the times, and every warning."""
    tables = [score_table(board, uncertainty), time_table(board)]
    if 1 < len(board.submissions) <= 3:  # noqa: PLR2004 - more pairs than a terminal is read for
        tables.append(comparison_table(board))
    if has_open_ends(board):
        tables.append(state_table(board))
    tables.extend(extra)
    for table in tables:
        for part in parts_that_fit(table, console.width):
            console.print(rich_table(part))
        if table.caption:
            console.print(f"[dim]{escape(table.caption)}[/]\n", soft_wrap=True)
    for warning in board.warnings:
        console.print(f"[yellow]warning[/]: {escape(warning)}", soft_wrap=True)


def print_recognised(console: Console, read: ReadBoards) -> None:
    """Say which benchmark published logs are scored by, where nobody named it."""
    if read.recognised is not None:
        name = read.boards[0].benchmark.name
        console.print(
            f"published logs: they fit [bold]{escape(name)}[/] (as --benchmark {read.recognised})", soft_wrap=True
        )


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
    """Split a table that is wider than the terminal; every part begins with the columns of names."""
    padding = 3
    names = range(table.num_names)
    columns = list(zip(table.header, *table.rows, strict=True))
    # A heading breaks at its underscores; a cell must stay whole to be read.
    widths = [max(map(len, (*heading.split("_"), *cells))) + padding for heading, *cells in columns]
    for column in names:
        widths[column] = max(map(len, columns[column])) + padding
    parts: list[list[int]] = [[]]
    for column, needed in enumerate(widths[table.num_names :], start=table.num_names):
        used = 1 + sum(widths[other] for other in (*names, *parts[-1]))
        if parts[-1] and used + needed > width:
            parts.append([])
        parts[-1].append(column)
    rows = [table.header, *table.rows]
    chosen = [[tuple(row[column] for column in (*names, *part)) for row in rows] for part in parts]
    return [Table(table.title, part[0], tuple(part[1:]), num_names=table.num_names) for part in chosen]


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
