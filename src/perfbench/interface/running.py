"""Running trials from Python: what is asked for becomes the overrides that the command line takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue
from rich.console import Console

from perfbench.cli.exploring import sweep_trials
from perfbench.cli.run import run_one
from perfbench.cli.sweep import make_sure, run_here
from perfbench.errors import ConfigError
from perfbench.interface.trials import Trial, Trials
from perfbench.launch.changed_code import OnChangedCode
from perfbench.results.store import TrialFolder
from perfbench.spec.run import SlurmCluster
from perfbench.tracking.views import DetailedView, LineView

Setting: TypeAlias = JsonValue | Path
Value: TypeAlias = JsonValue | tuple[float, float]
"""A value, a list of values, or a range: ``(low, high)``."""


def run(
    workload: str,
    submission: str | Path,
    *,
    trial: int = 1,
    hp: Mapping[str, JsonValue] | None = None,
    fresh: bool = False,
    progress: bool = True,
    **settings: Setting,
) -> Trial:
    """Run one trial on this machine, or continue it; a finished one of the same code is returned as it is.

    Args:
        workload: Its name.
        submission: Its name, or the path of its folder.
        trial: Which of the study, from 1.
        hp: Hyperparameters over those of the trial's point; such a trial is explored, never scored.
        fresh: Set aside what is there of this trial, and start it anew.
        progress: Show progress and a summary.
        settings: All other keys of ``perfbench run``: ``seed=1``, ``study=2``, ``scale="full"``, ``data_root=...``;
            two underscores stand for the dot in ``cluster__nproc_per_node=2``.

    Raises:
        PerfbenchError: If it is refused, crashes or is interrupted.
    """
    overrides = _overrides(workload, submission, {"trial": trial, **settings}, hp or {})
    console = Console(soft_wrap=True, quiet=not progress)
    view = DetailedView(console) if progress else LineView(console, is_quiet=True)
    choice = OnChangedCode.START_ANEW if fresh else OnChangedCode.REFUSE
    _, folder = run_one(overrides, console, view, choice)
    return Trial.load(folder.path)


def sweep(
    workload: str | Sequence[str],
    submission: str | Path | Sequence[str],
    *,
    hp: Mapping[str, Value] | None = None,
    points: int | None = None,
    progress: bool = True,
    **settings: Setting,
) -> Trials:
    """Run the trials of studies or suites on this machine, one after another; finished ones are not run again.

    Args:
        workload: One or several, or a suite.
        submission: One or several.
        hp: Values by name: one, a list of several, or a range ``(low, high)``; such trials are explored, never scored.
        points: How many points to take from ranges.
        progress: Show progress.
        settings: All other keys of ``perfbench sweep``: ``study="all"``, ``trial=[2, 4]``, ``seed=[1, 2, 3]``.

    Returns:
        All trials that have a folder; a crashed one does not stop the others.

    Raises:
        PerfbenchError: If something is refused.
    """
    given = settings if points is None else {"points": points, **settings}
    overrides = _overrides(_listed(workload), _listed(submission), given, hp or {})
    console = Console(soft_wrap=True, quiet=not progress)
    view = LineView(console, is_quiet=not progress)
    requests, trials = sweep_trials(overrides)
    if isinstance(requests[0].cluster, SlurmCluster):
        raise ConfigError(
            "a sweep from Python runs here", where="cluster", hint="`perfbench sweep cluster=slurm` submits"
        )
    make_sure(requests, trials, console, view)
    run_here(requests, trials, console, view, OnChangedCode.REFUSE)
    runs_root = Path(requests[0].runs_root).resolve()
    folders = [TrialFolder.of(runs_root, trial) for trial in trials]
    return Trials([Trial.load(folder.path) for folder in folders if (folder.path / "run.json").exists()])


def _overrides(
    workload: str, submission: str | Path, settings: Mapping[str, Setting], hp: Mapping[str, Value]
) -> list[str]:
    given = {name.replace("__", "."): override_text(value) for name, value in settings.items()}
    points = {f"hp.{name}": override_text(value) for name, value in hp.items()}
    return [
        f"workload={workload}",
        f"submission={submission}",
        *(f"{key}={text}" for key, text in (given | points).items()),
    ]


def _listed(names: str | Path | Sequence[str]) -> str:
    return str(names) if isinstance(names, str | Path) else ",".join(names)


def override_text(value: Value | Path) -> str:
    """Return a value as it stands after the equals sign of an override.

    >>> override_text(0.1), override_text(None), override_text("a b")
    ('0.1', 'null', "'a b'")
    >>> override_text([1, 2]), override_text((1e-4, 1e-2))
    ('1,2', '0.0001..0.01')
    """
    if isinstance(value, tuple):
        low, high = value
        return f"{low!r}..{high!r}"
    if isinstance(value, list):
        return ",".join(map(override_text, value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, dict):
        raise ConfigError(f"a mapping cannot be set: {value}", hint="set its keys: cluster__nproc_per_node=2")
    text = str(value)
    if isinstance(value, int | float) or all(letter.isalnum() or letter in "_-./" for letter in text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
