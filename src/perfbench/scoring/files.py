"""Writes boards to a folder: Markdown and LaTeX for people, CSV and JSON for programs, the profile as a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from perfbench.errors import ScoringError
from perfbench.results.files import atomic_file
from perfbench.results.trials import TrialLog
from perfbench.scoring.board import Board
from perfbench.scoring.document import as_json
from perfbench.scoring.tables import (
    Table,
    as_csv,
    as_latex,
    as_markdown,
    comparison_table,
    has_open_ends,
    markdown_text,
    score_table,
    state_table,
    time_table,
    trial_table,
)
from perfbench.scoring.uncertainty import Uncertainty


def write_boards(
    folder: Path,
    boards: Sequence[tuple[Board, Uncertainty | None]],
    complaints: Sequence[str],
    *,
    with_pictures: bool,
    extra_tables: Sequence[Sequence[Table]] = (),
    logs: Sequence[Sequence[TrialLog]] = (),
) -> list[Path]:
    """Write everything, replacing what an earlier call wrote, and return the files.

    Args:
        folder: Where; created if missing.
        boards: Leaderboards with their intervals.
        complaints: What was wrong on disk.
        with_pictures: Whether to draw the performance profiles.
        extra_tables: By board, more tables for its page.
        logs: By board, what it was made from: their hyperparameters stand in the table of trials.

    Raises:
        ScoringError: If the folder cannot be written.
    """
    contents: dict[str, bytes] = {
        "leaderboard.md": "\n".join(
            _page(board, uncertainty, more) for (board, uncertainty), more in zip_longest(boards, extra_tables)
        ).encode(),
        "leaderboard.tex": "\n".join(_latex(board, uncertainty) for board, uncertainty in boards).encode(),
        "leaderboard.json": as_json(boards, complaints).encode(),
    }
    for number, (board, uncertainty) in enumerate(boards):
        own = logs[number] if logs else ()
        stem = f"_{slug(board.benchmark.name)}" if len(boards) > 1 else ""
        contents[f"scores{stem}.csv"] = as_csv(score_table(board, uncertainty)).encode()
        contents[f"trials{stem}.csv"] = as_csv(trial_table(board, own)).encode()
        contents[f"pairs{stem}.csv"] = as_csv(comparison_table(board)).encode()
        if with_pictures:
            contents |= _pictures(board, stem)
    return write_contents(folder, contents)


def write_contents(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files, replacing what an earlier call wrote, and return them.

    Raises:
        ScoringError: If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            with atomic_file(folder / name) as file:
                file.write(content)
    except OSError as problem:
        raise ScoringError(
            f"the tables cannot be written: {problem.strerror}", where=str(folder), hint="choose a folder with --out"
        ) from None
    return [folder / name for name in contents]


def slug(name: str) -> str:
    """Return the name as part of a file name.

    >>> slug("mini external v1.0 smoke target")
    'mini_external_v1.0_smoke_target'
    """
    return re.sub(r"[^\w.-]+", "_", name)


def _page(board: Board, uncertainty: Uncertainty | None, extra: Sequence[Table] | None) -> str:
    tables = [score_table(board, uncertainty), time_table(board, uncertainty)]
    if len(board.submissions) > 1:
        tables.append(comparison_table(board))
    if has_open_ends(board):
        tables.append(state_table(board))
    tables.extend(extra or ())
    warnings = "".join(f"- **warning**: {markdown_text(warning)}\n" for warning in board.warnings)
    return "\n".join([*(as_markdown(table) for table in tables), warnings])


def _latex(board: Board, uncertainty: Uncertainty | None) -> str:
    return "\n".join(as_latex(table) for table in (score_table(board, uncertainty), time_table(board, uncertainty)))


def _pictures(board: Board, stem: str) -> dict[str, bytes]:
    from perfbench.scoring.plot import as_png, as_svg, profile_figure

    figure = profile_figure(board)
    return {f"profile{stem}.svg": as_svg(figure), f"profile{stem}.png": as_png(figure)}
