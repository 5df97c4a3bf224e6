"""Scores as objects: boards with their tables and their performance profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfbench.cli.boards import ReadBoards, read_boards
from perfbench.errors import ScoringError
from perfbench.interface.html import html_table
from perfbench.scoring.board import Board
from perfbench.scoring.selection import Selection
from perfbench.scoring.tables import Table, score_table, time_table
from perfbench.scoring.uncertainty import bootstrap

if TYPE_CHECKING:
    import polars as pl

    from perfbench.scoring.plot import Drawing


class Scores:
    """Boards: one for each setting (scale, target, rules) that may be compared.

    Args:
        read: The boards and what they were made from.
    """

    def __init__(self, read: ReadBoards) -> None:
        self.read = read

    @property
    def boards(self) -> tuple[Board, ...]:
        """All boards."""
        return self.read.boards

    @property
    def board(self) -> Board:
        """The only board.

        Raises:
            ScoringError: If there are several.
        """
        if len(self.boards) > 1:
            names = ", ".join(board.benchmark.name for board in self.boards)
            raise ScoringError(f"there are {len(self.boards)} boards: {names}", hint="choose one of .boards")
        return self.boards[0]

    @property
    def warnings(self) -> list[str]:
        """What makes the boards partial, and what was wrong on disk."""
        complaints = [str(one) for one in self.read.complaints if not one.is_harmless]
        return [*(warning for board in self.boards for warning in board.warnings), *complaints]

    def frame(self) -> pl.DataFrame:
        """Return one row for each submission of each board: its score, and its seconds to each workload's target.

        Columns are ``benchmark``, ``submission``, ``score``, and the workloads: infinite where not reached.
        """
        import polars as pl

        rows = [
            {"benchmark": board.benchmark.name, "submission": name, "score": board.score[name]}
            | {workload: board.cells[name, workload].time.time_s for workload in board.benchmark.workloads}
            for board in self.boards
            for name in board.submissions
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    def __repr__(self) -> str:
        """Return the names and scores."""
        lines = [
            f"{board.benchmark.name}: " + ", ".join(f"{name} {board.score[name]:.4f}" for name in board.submissions)
            for board in self.boards
        ]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        tables = [table for board in self.boards for table in (score_table(board, bootstrap(board)), time_table(board))]
        warnings = "".join(f"<br>{part}" for part in (html_table(("warning",), [(one,)]) for one in self.warnings[:5]))
        return "".join(map(_shown, tables)) + warnings


def score(
    *paths: str | Path,
    benchmark: str | None = None,
    as_published: bool = False,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    trust: bool = False,
) -> Scores:
    """Score trial folders, or published AlgoPerf logs; nothing is written.

    Args:
        paths: Folders, at any depth above the trials; ``runs`` where none is given.
        benchmark: Whose rules published logs are scored by; by default those of the one that they fit.
        as_published: Follow the published board where it departs from the rules.
        only: These submissions or workloads.
        exclude: Without these submissions or workloads.
        trust: Count trials whose records contradict themselves.

    Raises:
        ResultsError: If there is no trial, or a path does not exist.
        ScoringError: If no trial can be scored.
    """
    read = read_boards(
        [Path(path).expanduser() for path in paths] or [Path("runs")],
        benchmark=benchmark,
        as_published=as_published,
        selection=Selection(only=tuple(only), exclude=tuple(exclude)),
        trust=trust,
    )
    return Scores(read)


def plot_profile(scores: Scores | Board | str | Path) -> Drawing:
    """Draw the performance profiles of a board: over tau, the share of workloads within tau times the fastest.

    Args:
        scores: What :func:`score` returned, one of its boards, or a path to score.

    Raises:
        PerfbenchError: As :func:`score`; if there are several boards.
    """
    from perfbench.scoring.plot import Drawing, profile_figure

    if isinstance(scores, str | Path):
        scores = score(scores)
    return Drawing(profile_figure(scores.board if isinstance(scores, Scores) else scores))


def _shown(table: Table) -> str:
    return html_table(table.header, table.rows, title=table.title, caption=table.caption)
