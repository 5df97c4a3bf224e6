"""What a person sees while trials run: a live panel on a terminal, plain lines elsewhere, and a closing summary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from perfbench.results.store import TrialFolder
from perfbench.results.trials import why_unscorable
from perfbench.spec.result import (
    EVAL_SHARE_LIMIT,
    BudgetSpent,
    Completed,
    Crashed,
    Diverged,
    Measurement,
    PhaseTimes,
    TargetReached,
    TrialResult,
)
from perfbench.spec.run import TrialSpec
from perfbench.tracking.follow import Follower, Progress
from perfbench.tracking.outlook import outlook

_PLAIN_PERIOD_S = 5.0
_SHOWN_FROM_S = 0.05


class TrialView:
    """Shows one trial; ``watch`` is called several times a second while it runs."""

    def __init__(self, trial: TrialSpec, folder: TrialFolder, console: Console) -> None:
        self._trial = trial
        self._console = console
        self._follower = Follower(folder)
        self._live: Live | None = None
        self._last_line_s = 0.0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Show the trial while the block runs."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=4, transient=True) as self._live:
            yield

    def watch(self) -> None:
        """Look at the trial's records and show what changed."""
        progress = self._follower.look()
        for warning in progress.new_warnings:
            self.warn(warning)
        for measurement in progress.new_measurements:
            self._console.print(self._measurement_line(measurement))
        if self._live is not None:
            self._live.update(self._panel(progress))
        elif time.monotonic() - self._last_line_s > _PLAIN_PERIOD_S:
            self._last_line_s = time.monotonic()
            self._console.print(self._plain_line(progress))

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._console.print(f"[yellow]warning[/] {escape(text)}")

    def _measurement_line(self, measurement: Measurement) -> str:
        target = self._trial.target
        value = measurement.metrics.get(target.metric, float("nan"))
        mark = " [green]reached[/]" if target.is_reached_by(measurement.metrics) else ""
        return (
            f"  step {measurement.step:>7,}  {measurement.submission_time_s:>8.1f} s  "
            f"{target.metric} {value:.5f}  (target {target.threshold:g}){mark}"
        )

    def _plain_line(self, progress: Progress) -> str:
        budget_s = self._trial.max_submission_time_s
        done = f"step {progress.step:,}, {progress.submission_time_s:.1f} s of {budget_s:.0f} s"
        return f"  {progress.phase}: {', '.join([done, *outlook(self._trial, progress)])}"

    def _panel(self, progress: Progress) -> Panel:
        trial, table = self._trial, Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_column()
        fraction = progress.submission_time_s / trial.max_submission_time_s
        table.add_row(
            "time", _bar(fraction, f"{progress.submission_time_s:.1f} s of {trial.max_submission_time_s:.0f} s")
        )
        if trial.max_steps is not None:
            done = f"{progress.step:,} of {trial.max_steps:,}"
            table.add_row("steps", _bar(progress.step / trial.max_steps, done))
        table.add_row("outlook", ", ".join(outlook(trial, progress)) or "-")
        if trial.num_ranks > 1:
            share = trial.global_batch_size // trial.num_ranks
            table.add_row("ranks", f"{trial.num_ranks}, each with {share:,} of {trial.global_batch_size:,} examples")
        if used := resources_text(progress):
            table.add_row("rank 0" if trial.num_ranks > 1 else "uses", used)
        table.add_row("metric", self._metric_text(progress))
        table.add_row("now", _now(progress))
        return Panel(table, title=trial.label(), title_align="left", border_style="cyan", expand=False)

    def _metric_text(self, progress: Progress) -> Text:
        target = self._trial.target
        if progress.measurement is None:
            return Text(f"{target.metric}: not yet evaluated (target {target.threshold:g})", style="dim")
        value = progress.measurement.metrics.get(target.metric, float("nan"))
        style = "green" if target.is_reached_by(progress.measurement.metrics) else "default"
        return Text(f"{target.metric} {value:.5f}, target {target.threshold:g}", style=style)


def resources_text(progress: Progress) -> str:
    """Return what the device, or else the host, is used for; empty before it is known."""
    used = progress.resources
    if "gpu_memory_bytes" in used:
        share = f", {used['gpu_use']:.0%} busy" if "gpu_use" in used else ""
        return f"{used['gpu_memory_most_bytes'] / 2**30:.1f} GiB of GPU memory at most{share}"
    return f"{used['host_memory_bytes'] / 2**30:.1f} GiB of memory" if "host_memory_bytes" in used else ""


def _bar(fraction: float, text: str) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=1.0, completed=min(1.0, fraction), width=36), text)
    return grid


def _now(progress: Progress) -> str:
    if progress.phase == "training" and progress.next_evaluation_s is not None:
        return f"training, next evaluation in {progress.next_evaluation_s:.0f} s"
    return progress.phase


def summary(trial: TrialSpec, result: TrialResult, folder: TrialFolder) -> Group:
    """Return the closing summary of a trial: how it ended, what its time went into, where the files are."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column()
    table.add_row("outcome", outcome_text(result, trial))
    if result.best_metric is not None:
        table.add_row("best", f"{trial.target.metric} {result.best_metric:.5f} (target {trial.target.threshold:g})")
    batches = f" of {result.num_batches:,} batches" if (result.num_batches or 0) > result.num_steps + 1 else ""
    counted = f"{result.num_measurements} evaluations, {result.num_attempts} attempt(s)"
    table.add_row("steps", f"{result.num_steps:,}{batches}, {counted}")
    table.add_row("wall time", _accounted(result.phases))
    share = result.phases.eval_share()
    if share > EVAL_SHARE_LIMIT:
        more = f"evaluation takes {share:.0%} of training and evaluation, more than {EVAL_SHARE_LIMIT:.0%}"
        table.add_row("warning", Text(more, "yellow"))
    if result.lost_s:
        table.add_row("lost work", f"{result.lost_s:.1f} s of the clock, done again and counted once")
    if result.num_recompiles_after_warmup:
        table.add_row("warning", Text(f"{result.num_recompiles_after_warmup} recompilation(s) on the clock", "yellow"))
    if why := why_unscorable(trial, folder.code(), result):
        table.add_row("note", Text(f"{why}: never scored", "yellow"))
    table.add_row("files", str(folder.path))
    return Group(Text(trial.label(), style="bold"), table)


def _accounted(phases: PhaseTimes) -> str:
    """Return the wall time and what it went into; waiting for data is shown as a part of the scored phase."""
    shown = {name: s for name, s in phases.model_dump(exclude={"data_wait"}).items() if s >= _SHOWN_FROM_S}
    parts = [f"{name} {seconds:.1f} s" for name, seconds in shown.items()]
    if "scored" in shown and phases.data_wait >= _SHOWN_FROM_S:
        parts[list(shown).index("scored")] += f" ({phases.data_wait:.1f} s of it waiting for data)"
    return f"{phases.wall_s():.1f} s: {', '.join(parts)}"


def outcome_text(result: TrialResult, trial: TrialSpec) -> Text:
    """Return how a trial ended, in a few words."""
    outcome = result.outcome
    match outcome:
        case TargetReached():
            kind = f"{trial.scale.target.value} target"
            return Text(f"{kind} reached in {outcome.submission_time_s:.1f} s (step {outcome.step:,})", "bold green")
        case BudgetSpent():
            return Text(f"target not reached: {outcome.resource} budget spent at step {outcome.step:,}", "bold yellow")
        case Diverged():
            return Text(f"diverged: {outcome.what} (step {outcome.step:,})", "bold red")
        case Completed():
            return Text(f"target not reached: the submission ended at step {outcome.step:,}", "bold yellow")
        case Crashed():
            return Text(f"crashed ({outcome.reason.value}) on rank {outcome.rank}: {outcome.message}", "bold red")
