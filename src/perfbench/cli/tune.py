"""``perfbench tune``: a search for good hyperparameters on one workload, here, one explored trial after another."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from perfbench.cli.exploring import HP, axes_of, take_apart
from perfbench.cli.listing import print_listing
from perfbench.cli.output import add_changed_code_options, add_output_options, console_and_view, on_changed_code
from perfbench.cli.progress import data_progress
from perfbench.cli.table import table_of
from perfbench.compose import compose_run
from perfbench.errors import (
    ConfigError,
    ExitCode,
    LaunchError,
    PerfbenchError,
    RulesError,
    TrialFailedError,
    TrialInterruptedError,
)
from perfbench.launch.changed_code import OnChangedCode
from perfbench.launch.execute import execute_trial
from perfbench.launch.plan import explored, plan_trial
from perfbench.launch.preflight import check_submissions, check_trial
from perfbench.places import command
from perfbench.results.reader import read_trials
from perfbench.results.store import TrialFolder
from perfbench.scoring.overview import rows_of
from perfbench.spec.result import TrialResult
from perfbench.spec.run import RunSpec, SlurmCluster, TrialSpec
from perfbench.spec.submission import FeasiblePoints, RangeSpace, SubmissionSpec
from perfbench.tracking.follow import Follower
from perfbench.tracking.views import View, Watch
from perfbench.tuning.exploring import Values
from perfbench.tuning.search import Search, Suggestion, loss_of, value_of

_SHOWN = 10
"""Rows of the closing table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("submission")
    parser.add_argument("workload")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="hp.NAME=1e-4..1e-2 or a list says what is searched (default: the submission's search space); "
        "all other keys as for run",
    )
    parser.add_argument("--trials", type=int, default=20, help="budget: so many trials, earlier ones counted in")
    parser.add_argument("--hours", type=float, help="budget: no trial begins after so many hours")
    parser.add_argument("--no-pruning", action="store_true", help="let every trial run to its end")
    add_changed_code_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search until the budget is spent, and print the best trials."""
    console, view = console_and_view(arguments, lines=True)
    asked = take_apart(arguments.overrides)
    numbers = [f"{key}={value}" for key, values in asked.numbers.items() for value in values]
    names = [f"submission={arguments.submission}", f"workload={arguments.workload}"]
    request = compose_run([*names, *asked.rest, *numbers, "explore=true"])
    if isinstance(request.cluster, SlurmCluster):
        raise LaunchError(
            "a search runs here", where="cluster", hint="on Slurm: `perfbench sweep hp.NAME=A..B points=N`"
        )
    base = plan_trial(request)
    axes = axes_of(asked, request.submission) or _space_of(request.submission)
    _check(base, axes, Path(request.runs_root), console, trials=arguments.trials)
    place = TrialFolder.of(Path(request.runs_root).resolve(), base).path.parent / ".search"
    place.mkdir(parents=True, exist_ok=True)
    name = f"{base.identity()} {sorted((key, str(values)) for key, values in axes.items())}"
    search = Search(place / "optuna.journal", name=name, axes=axes, seed=request.seed, prunes=not arguments.no_pruning)
    budget = _Budget(arguments.trials, arguments.hours)
    tuner = _Tuner(search, request, base, view, on_changed_code(arguments))
    is_whole = tuner.run(budget)
    _conclude(console, place.parent, arguments, search)
    return int(ExitCode.DONE if is_whole else ExitCode.RUN_FAILED)


def _space_of(submission: SubmissionSpec) -> dict[str, Values]:
    """Return the submission's own search space without what has one value only."""
    space = submission.search_space
    if not isinstance(space, RangeSpace):
        raise ConfigError(
            f"submission {submission.name!r} has no ranges to search: its points are listed, or it tunes itself",
            where="submission.search_space",
            hint=f"say what to search, for example {HP}learning_rate=1e-4..1e-2",
        )
    axes: dict[str, Values] = {}
    for name, dimension in space.dimensions.items():
        values: Values = dimension.values if isinstance(dimension, FeasiblePoints) else dimension
        if not isinstance(dimension, FeasiblePoints) or len(dimension.values) > 1:
            axes[name] = values
    return axes


def _check(base: TrialSpec, axes: Mapping[str, Values], runs_root: Path, console: Console, *, trials: int) -> None:
    """Check what can be known before the first trial: data, and that the submission knows the names."""
    if trials < 1:
        raise ConfigError(f"must be at least 1, got {trials}", where="--trials")
    if base.hyperparameters is None:
        raise RulesError(f"submission {base.submission.name!r} takes no hyperparameters: it tunes itself")
    with data_progress(console) as progress:
        check_trial(base, runs_root, progress)
    corners = {name: values[0] if isinstance(values, tuple | list) else None for name, values in axes.items()}
    lowest = {name: getattr(axes[name], "min", value) for name, value in corners.items()}
    check_submissions([explored(base, lowest)])


@dataclass(slots=True)
class _Budget:
    """What a search may use."""

    num_trials: int
    hours: float | None
    began_s: float = 0.0

    def __post_init__(self) -> None:
        self.began_s = time.monotonic()

    def is_spent(self, num_ended: int) -> bool:
        """Tell whether no further trial may begin."""
        is_late = self.hours is not None and time.monotonic() - self.began_s > self.hours * 3600
        return num_ended >= self.num_trials or is_late


class _Tuner:
    """Runs what a search suggests."""

    def __init__(
        self, search: Search, request: RunSpec, base: TrialSpec, view: View, on_changed_code: OnChangedCode
    ) -> None:
        self._search = search
        self._request = request
        self._base = base
        self._view = view
        self._on_changed_code = on_changed_code
        self._root = Path(request.runs_root).resolve()

    def run(self, budget: _Budget) -> bool:
        """Run until the budget is spent; tell whether nothing interrupted it."""
        left_open = [one for one in self._search.open_suggestions() if not self._is_running(one)]
        while not budget.is_spent(self._search.num_ended):
            suggestion = left_open.pop(0) if left_open else self._search.suggest()
            if not self._try(suggestion):
                return False
        return True

    def _is_running(self, suggestion: Suggestion) -> bool:
        folder = TrialFolder.of(self._root, explored(self._base, suggestion.point))
        return folder.path.exists() and folder.is_running()

    def _try(self, suggestion: Suggestion) -> bool:
        """Run one trial and tell the search; return whether to go on."""
        trial = explored(self._base, suggestion.point)
        view = _PruningView(self._view, self._search, suggestion)
        request = self._request
        try:
            result, folder = execute_trial(
                trial, request.cluster, request.tracking, self._root, view, on_changed_code=self._on_changed_code
            )
        except TrialInterruptedError:
            if not view.has_pruned:
                return False  # it stays open: the same command continues it
            self._search.tell_pruned(suggestion)
            self._view.warn(f"{trial.label()}: pruned")
            return True
        except TrialFailedError as problem:
            self._search.tell_failed(suggestion)
            self._view.failed(trial, problem)
            return True
        except PerfbenchError:
            self._search.tell_failed(suggestion)
            raise
        self._view.finished(trial, result, folder)
        self._search.tell(suggestion, value_of(result, trial.target, trial.max_submission_time_s))
        return True


class _PruningView:
    """Shows a trial as another view does, and ends it once the search has no hope for it."""

    def __init__(self, view: View, search: Search, suggestion: Suggestion) -> None:
        self._view = view
        self._search = search
        self._suggestion = suggestion
        self.has_pruned = False

    @contextmanager
    def showing(self, trial: TrialSpec, folder: TrialFolder) -> Iterator[Watch]:
        """Show the trial, and look at its evaluations."""
        follower = Follower(folder)
        num_seen = 0
        with self._view.showing(trial, folder) as watch_shown:

            def watch() -> None:
                nonlocal num_seen
                watch_shown()
                for measurement in follower.look().new_measurements:
                    num_seen += 1
                    value = measurement.metrics.get(trial.target.metric, float("nan"))
                    loss = loss_of(value, trial.target)
                    is_there = trial.target.is_reached_by(measurement.metrics)
                    is_hopeless = self._search.is_hopeless(self._suggestion, evaluation=num_seen, loss=loss)
                    if is_hopeless and not is_there and not self.has_pruned:
                        self.has_pruned = True
                        folder.append_telemetry("pruned", {"at_step": measurement.step})
                        signal.raise_signal(signal.SIGTERM)  # as a person would: the ranks save and end

            yield watch

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._view.warn(text)

    def finished(self, trial: TrialSpec, result: TrialResult, folder: TrialFolder) -> None:
        """Show how the trial ended."""
        self._view.finished(trial, result, folder)

    def failed(self, trial: TrialSpec, problem: PerfbenchError) -> None:
        """Show that the trial has no result."""
        self._view.failed(trial, problem)


def _conclude(console: Console, folder: Path, arguments: argparse.Namespace, search: Search) -> None:
    """Show the best trials and how to run the best one again."""
    rows = rows_of(read_trials([folder]).trials)
    if not rows:
        return
    print_listing(console, table_of(rows[:_SHOWN], all_columns=False))
    best = " ".join(f"{HP}{name}={value}" for name, value in rows[0].hyperparameters.items())
    again = f"{command()} run submission={arguments.submission} workload={arguments.workload} {best}"
    console.print(f"{search.num_ended} trials of the search ended; the best point again:\n  {again}", soft_wrap=True)
    console.print(f"all of them: {command()} table {folder}", soft_wrap=True)
