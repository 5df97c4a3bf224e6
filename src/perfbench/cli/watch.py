"""``perfbench watch FOLDER``: the curves of trials that run, drawn again and again, from another terminal."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_MOST_TRIALS = 6
"""Drawn together: more lines than that nobody tells apart."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("runs"), help="a trial's, or any folder above: the latest (runs)"
    )
    parser.add_argument("--once", action="store_true", help="draw once and end, as where there is no terminal")
    parser.add_argument("--period-s", type=float, default=2.0)


def run(arguments: argparse.Namespace) -> int:
    """Draw until every trial that is watched has ended."""
    from rich.console import Console

    from perfbench.errors import ExitCode, ResultsError

    console = Console(soft_wrap=False)
    folders = latest_trials(arguments.folder)
    if not folders:
        raise ResultsError("no trial folder found", where=str(arguments.folder), hint="`perfbench run` makes one")
    watched = [Watched(folder, letter) for folder, letter in zip(folders, "ABCDEF", strict=False)]
    while True:
        is_going_on = [one.look() for one in watched]
        text = frame(watched, console)
        if console.is_terminal and not arguments.once:
            console.clear()
        console.file.write(text)
        console.file.flush()
        if arguments.once or not console.is_terminal or not any(is_going_on):
            return int(ExitCode.DONE)
        time.sleep(arguments.period_s)


def latest_trials(folder: Path) -> list[Path]:
    """Return the folder itself if it is a trial's; else the trials below that run, else the one that changed last.

    Raises:
        ResultsError: If there is no such folder.
    """
    from perfbench.results.reader import trial_folders
    from perfbench.results.store import TrialFolder

    def changed_s(path: Path) -> float:
        files = (path / name for name in ("telemetry.jsonl", "measurements.jsonl", "run.json"))
        return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)

    found = sorted(trial_folders([folder], []), key=changed_s, reverse=True)
    running = [path for path in found if TrialFolder(path).result() is None and TrialFolder(path).is_running()]
    return (running or found[:1])[:_MOST_TRIALS]


class Watched:
    """One trial that is watched.

    Args:
        path: Its folder.
        letter: Names its line.
    """

    def __init__(self, path: Path, letter: str) -> None:
        from perfbench.results.store import TrialFolder
        from perfbench.tracking.follow import Follower

        self.letter = letter
        self.folder = TrialFolder(path)
        self.trial = self.folder.trial()
        self._follower = Follower(self.folder, from_start=True)
        self.progress = self._follower.progress
        self.losses: list[tuple[int, float]] = []

    def look(self) -> bool:
        """Read what was added; tell whether the trial goes on."""
        self.progress = self._follower.look()
        self.losses += self.progress.new_losses
        return self.folder.result() is None and self.folder.is_running()

    def line(self) -> str:
        """Return what is known about the trial, on one line."""
        from perfbench.tracking.console import outcome_text
        from perfbench.tracking.views import running_line

        result = self.folder.result()
        if result is not None:
            return f"{self.letter}  {self.trial.label()}: {outcome_text(result, self.trial).plain}"
        state = "" if self.folder.is_running() else " (nothing runs it now)"
        return f"{self.letter}  {running_line(self.trial, self.progress).plain}{state}"


def frame(watched: list[Watched], console: Console) -> str:
    """Return the lines and curves of the trials as they are now, ending with a newline."""
    import numpy as np

    from perfbench.cli.terminal_plot import Axes, Line, plot, visible
    from perfbench.results.reader import read_trial
    from perfbench.scoring.curves import curve_of

    width, height = min(console.width, 120), max(10, min(18, (console.height - len(watched) - 4) // 2))
    parts = [one.line() for one in watched]
    read = [(one.letter, read_trial(one.folder.path, [])) for one in watched]
    curves = [curve_of(letter, trial) for letter, trial in read if trial is not None]
    drawn = [Line(curve.label, curve.times_s, visible(curve.values)) for curve in curves if len(curve.steps)]
    if drawn:
        target = watched[0].trial.target
        axes = Axes(f"{target.metric} (line: target {target.threshold:g})", "seconds on the clock", target.threshold)
        parts.append(plot(drawn, axes, width=width, height=height, colours=console.is_terminal))
    losses = [
        Line(
            one.letter,
            np.array([step for step, _ in one.losses], dtype=np.float64),
            visible(np.array([loss for _, loss in one.losses], dtype=np.float64)),
        )
        for one in watched
        if one.losses
    ]
    if losses:
        axes = Axes("training loss", "step")
        parts.append(plot(losses, axes, width=width, height=height, colours=console.is_terminal))
    if not drawn and not losses:
        parts.append("nothing measured yet")
    return "\n".join(parts) + "\n"
