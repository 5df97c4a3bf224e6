"""``perfbench cancel``: take a run folder's jobs off the cluster; what they have saved stays."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("runs_root", nargs="?", type=Path, default=Path("runs/mini"), help="default: runs/mini")
    parser.add_argument("--submission", help="only jobs of this submission")
    parser.add_argument("--workload", help="only jobs of this workload")


def run(arguments: argparse.Namespace) -> int:
    """Cancel the jobs and say how to go on."""
    from rich.console import Console

    from perfbench.errors import ExitCode
    from perfbench.launch.slurm import controller
    from perfbench.launch.slurm.manifest import manifest_of_job
    from perfbench.places import command

    console = Console(soft_wrap=True)
    controller.require_slurm()
    runs_root = arguments.runs_root.resolve()
    chosen = set()
    for job in controller.queued_jobs():
        manifest = manifest_of_job(runs_root, job.name)
        if manifest is None:
            continue
        submission, _, workload = manifest.title.partition(".")
        if arguments.submission in (None, submission) and arguments.workload in (None, workload):
            chosen.add(job.array_job_id)
            manifest.note_cancelled()
    controller.cancel(sorted(chosen))
    if chosen:
        console.print(f"cancelled: {', '.join(sorted(chosen))}; `{command()} resume {arguments.runs_root}` goes on")
    else:
        console.print(f"no job of {arguments.runs_root} is queued or running")
    return int(ExitCode.DONE)
