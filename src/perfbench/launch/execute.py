"""Running a planned trial where the request says, shown to a person and mirrored where they asked for it."""

from __future__ import annotations

from pathlib import Path

from perfbench.errors import LaunchError
from perfbench.launch.changed_code import CodeNow, OnChangedCode, make_ready
from perfbench.launch.local import run_trial
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.spec.run import Cluster, DebugCluster, LocalCluster, SlurmCluster, TrackingSpec, TrialSpec
from perfbench.tracking.beside import mirrored
from perfbench.tracking.views import View


def execute_trial(
    trial: TrialSpec,
    cluster: Cluster,
    tracking: TrackingSpec,
    runs_root: Path,
    view: View,
    *,
    on_changed_code: OnChangedCode = OnChangedCode.REFUSE,
) -> tuple[TrialResult, TrialFolder]:
    """Run or continue a trial and show it; a finished one of the same code is returned as it is.

    Raises:
        PerfbenchError: If it is refused, crashes or is interrupted.
    """
    folder = TrialFolder.of(runs_root.resolve(), trial)
    if isinstance(cluster, SlurmCluster):
        raise LaunchError("a single trial does not run on Slurm", where="cluster", hint="use `perfbench sweep`")
    make_ready(trial, folder, on_changed_code, code=CodeNow(), tell=view.warn)
    if (done := folder.finished()) is not None:
        return done, folder
    with view.showing(trial, folder) as watch, mirrored(folder, tracking, view.warn) as mirror:

        def watch_both() -> None:
            watch()
            mirror.watch()

        match cluster:
            case LocalCluster():
                return run_trial(trial, folder, watch_both, cluster), folder
            case DebugCluster():
                from perfbench.launch.debug import run_here

                return run_here(trial, folder), folder
