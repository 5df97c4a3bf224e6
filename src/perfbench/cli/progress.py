"""A progress bar for preparing data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from perfbench.data.preparation import Progress as ReportProgress


@contextmanager
def data_progress(console: Console) -> Iterator[ReportProgress]:
    """Yield what preparers report to; shows one bar per task, and a plain line per task without a terminal."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
            if not console.is_terminal:
                console.print(f"  {what} ({total:,})")
        bars.update(tasks[what], completed=done, total=total)

    with bars:
        yield report
