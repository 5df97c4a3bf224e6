"""``perfbench resume``: go on with what a run folder holds unfinished, as it was submitted before."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("runs_root", nargs="?", type=Path, default=Path("runs/mini"), help="default: runs/mini")
    parser.add_argument("--retry-failed", action="store_true", help="also what has crashed")
    parser.add_argument("--dry-run", "--dry", action="store_true", help="show what would be submitted")
    parser.add_argument(
        "--continue-with-changed-code",
        action="store_true",
        help="go on although the code was changed: on record, and never scored",
    )
    parser.add_argument(
        "--lost",
        action="store_true",
        help="only what Slurm has lost, exactly as it was submitted (the scoring job does it)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Release what is held, submit what is unfinished and not queued; trials go on from their checkpoints."""
    from rich.console import Console

    from perfbench.cli.arrays import SubmitOptions, submit_or_show
    from perfbench.errors import ExitCode, ResultsError
    from perfbench.launch.changed_code import OnChangedCode
    from perfbench.launch.slurm.manifest import manifests
    from perfbench.launch.sweep import read_trials_back
    from perfbench.spec.run import SlurmCluster, TrackingSpec

    console = Console(soft_wrap=True)
    runs_root = arguments.runs_root.resolve()
    latest: dict[str, tuple[SlurmCluster, TrackingSpec]] = {}
    for manifest in manifests(runs_root):
        latest |= dict.fromkeys(manifest.trial_folders, (manifest.cluster, manifest.tracking))
    if not latest:
        raise ResultsError(
            "nothing was ever submitted from this folder",
            where=str(runs_root),
            hint="`perfbench sweep ... cluster=slurm` submits",
        )
    if arguments.lost:
        return _put_back(runs_root, console, is_dry=arguments.dry_run)
    _release_held(runs_root, console, is_dry=arguments.dry_run)
    ways = {cluster.digest() + tracking.digest(): (cluster, tracking) for cluster, tracking in latest.values()}
    for cluster, tracking in ways.values():
        folders = [runs_root / name for name, used in latest.items() if used == (cluster, tracking)]
        trials = read_trials_back(runs_root, [folder for folder in folders if (folder / "run.json").exists()])
        if trials:
            choice = OnChangedCode.CONTINUE if arguments.continue_with_changed_code else OnChangedCode.REFUSE
            options = SubmitOptions(
                arguments.dry_run, arguments.retry_failed, tracking, on_changed_code=choice, names_held=False
            )
            submit_or_show(trials, cluster, runs_root, console, options)
    return int(ExitCode.DONE)


def _put_back(runs_root: Path, console: Console, *, is_dry: bool) -> int:
    """Submit the trials again that were started, have no result, and whose jobs Slurm has ended for good."""
    from perfbench.errors import ExitCode
    from perfbench.launch.slurm import controller
    from perfbench.launch.slurm.queue import jobs_by_trial
    from perfbench.launch.slurm.recovery import lost_elements, put_back

    if is_dry:
        lost = lost_elements(runs_root, jobs_by_trial(runs_root, controller.queued_jobs()))
        console.print("\n".join([f"lost: {element.path}" for element in lost]) or "nothing is lost", highlight=False)
        return int(ExitCode.DONE)
    job_ids = put_back(runs_root)
    console.print(f"lost trials were put back: {', '.join(job_ids)}" if job_ids else "nothing is lost", highlight=False)
    return int(ExitCode.DONE)


def _release_held(runs_root: Path, console: Console, *, is_dry: bool) -> None:
    """Release the jobs of a run folder that Slurm holds, as it does when their node was lost at launch."""
    from perfbench.launch.slurm import controller
    from perfbench.launch.slurm.queue import held_jobs, jobs_by_trial

    if is_dry and not controller.is_reachable():  # a plan can be made anywhere
        return
    held = held_jobs(jobs_by_trial(runs_root, controller.queued_jobs()).values())
    if not held:
        return
    if not is_dry:
        controller.release(held)
    console.print(f"{'would release' if is_dry else 'released'} held jobs: {', '.join(held)}", highlight=False)
