"""Running a planned trial where the request says, shown to a person."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from perfbench.errors import LaunchError
from perfbench.launch.local import run_trial
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.spec.run import Cluster, DebugCluster, LocalCluster, SlurmCluster, TrialSpec
from perfbench.tracking.console import TrialView


def execute_trial(
    trial: TrialSpec, cluster: Cluster, runs_root: Path, console: Console
) -> tuple[TrialResult, TrialFolder]:
    """Run or continue a trial and show it; a finished one is returned as it is.

    Raises:
        PerfbenchError: If it is refused, crashes or is interrupted.
    """
    folder = TrialFolder.of(runs_root.resolve(), trial)
    match cluster:
        case LocalCluster(hang_timeout_s=hang_timeout_s):
            view = TrialView(trial, folder, console)
            with view.open():
                return run_trial(trial, folder, view.watch, hang_timeout_s=hang_timeout_s), folder
        case DebugCluster():
            from perfbench.launch.debug import run_here

            return run_here(trial, folder), folder
        case SlurmCluster():
            raise LaunchError("a single trial does not run on Slurm", where="cluster", hint="use `perfbench sweep`")
