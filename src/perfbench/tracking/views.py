"""Ways to show trials that run: in detail, a line each, a line at the end, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from perfbench.errors import PerfbenchError
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.spec.run import TrialSpec
from perfbench.tracking.console import TrialView, outcome_text, summary
from perfbench.tracking.follow import Follower, Progress
from perfbench.tracking.outlook import outlook

Watch = Callable[[], None]
"""Called several times a second while a trial runs."""


class View(Protocol):
    """Shows trials, one after another."""

    def showing(self, trial: TrialSpec, folder: TrialFolder) -> AbstractContextManager[Watch]:
        """Show a trial while the block runs, whenever what is yielded is called."""
        ...

    def warn(self, text: str) -> None:
        """Show a warning."""
        ...

    def finished(self, trial: TrialSpec, result: TrialResult, folder: TrialFolder) -> None:
        """Show how a trial ended."""
        ...

    def failed(self, trial: TrialSpec, problem: PerfbenchError) -> None:
        """Show that a trial has no result."""
        ...


class DetailedView:
    """Everything about the one trial that runs: a live panel on a terminal, plain lines elsewhere, a summary."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def showing(self, trial: TrialSpec, folder: TrialFolder) -> Iterator[Watch]:
        """Show the trial."""
        view = TrialView(trial, folder, self._console)
        with view.open():
            yield view.watch

    def warn(self, text: str) -> None:
        """Show it among the other lines."""
        self._console.print(f"[yellow]warning[/] {escape(text)}")

    def finished(self, trial: TrialSpec, result: TrialResult, folder: TrialFolder) -> None:
        """Show the summary."""
        self._console.print(summary(trial, result, folder))

    def failed(self, trial: TrialSpec, problem: PerfbenchError) -> None:
        """Show why."""
        self._console.print(f"[red]{trial.label()}[/]: {escape(str(problem))}")


class LineView:
    """A line for each trial: live while it runs (on a terminal), and left standing when it has ended.

    Args:
        console: Where to.
        is_quiet: Whether only ends and warnings are shown.
    """

    def __init__(self, console: Console, *, is_quiet: bool = False) -> None:
        self._console = console
        self._is_quiet = is_quiet

    @contextmanager
    def showing(self, trial: TrialSpec, folder: TrialFolder) -> Iterator[Watch]:
        """Show the trial's line."""
        follower = Follower(folder)
        if self._is_quiet or not self._console.is_terminal:
            yield lambda: self._warn_of(follower.look())
            return
        with Live(console=self._console, refresh_per_second=4, transient=True) as live:

            def watch() -> None:
                progress = follower.look()
                self._warn_of(progress)
                live.update(running_line(trial, progress))

            yield watch

    def warn(self, text: str) -> None:
        """Show it on a line of its own."""
        self._console.print(f"[yellow]warning[/] {escape(text)}")

    def finished(self, trial: TrialSpec, result: TrialResult, folder: TrialFolder) -> None:
        """Leave a line."""
        best = "" if result.best_metric is None else f", best {trial.target.metric} {result.best_metric:.5f}"
        shares = f", {result.phases.wall_s():.1f} s in all, {result.phases.eval_share():.0%} evaluation"
        where = f", {folder.path}" if self._is_quiet else ""
        self._console.print(Text.assemble(f"{trial.label()}: ", outcome_text(result, trial), best, shares, where))

    def failed(self, trial: TrialSpec, problem: PerfbenchError) -> None:
        """Leave a line that says why."""
        self._console.print(f"{trial.label()}: [bold red]failed[/]: {escape(str(problem))}")

    def _warn_of(self, progress: Progress) -> None:
        for text in progress.new_warnings:
            self.warn(text)


def running_line(trial: TrialSpec, progress: Progress) -> Text:
    """Return what is known about a running trial, on one line."""
    budget_s = trial.max_submission_time_s
    parts = [f"{progress.phase}, step {progress.step:,}, {progress.submission_time_s:.1f} s of {budget_s:.0f} s"]
    if progress.measurement is not None:
        value = progress.measurement.metrics.get(trial.target.metric, float("nan"))
        parts.append(f"{trial.target.metric} {value:.5f} (target {trial.target.threshold:g})")
    parts += outlook(trial, progress)
    return Text.assemble((f"{trial.label()}: ", "bold"), ", ".join(parts), overflow="ellipsis", no_wrap=True)


class JsonView:
    """A JSON object on a line for each thing that happens: ``event`` says what, ``trial`` where.

    Args:
        write: Takes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    @contextmanager
    def showing(self, trial: TrialSpec, folder: TrialFolder) -> Iterator[Watch]:
        """Write evaluations and warnings as they come."""
        follower = Follower(folder)

        def watch() -> None:
            progress = follower.look()
            for text in progress.new_warnings:
                self._event("warning", text=text, **_place(trial))
            for measurement in progress.new_measurements:
                self._event("measurement", **_place(trial), measurement=measurement.model_dump(mode="json"))

        self._event("started", **_place(trial), folder=str(folder.path))
        yield watch

    def warn(self, text: str) -> None:
        """Write it."""
        self._event("warning", text=text)

    def finished(self, trial: TrialSpec, result: TrialResult, folder: TrialFolder) -> None:
        """Write the result."""
        self._event("result", **_place(trial), folder=str(folder.path), result=result.model_dump(mode="json"))

    def failed(self, trial: TrialSpec, problem: PerfbenchError) -> None:
        """Write why there is none."""
        self._event("failed", **_place(trial), what=problem.what, where=problem.where, hint=problem.hint)

    def _event(self, event: str, **values: object) -> None:
        self._write(json.dumps({"event": event, **values}))


def _place(trial: TrialSpec) -> dict[str, object]:
    return {
        "submission": trial.submission.name,
        "workload": trial.workload.name,
        "study": trial.study,
        "trial": trial.trial,
    }
