"""From Slurm's queue to trials: a job's name leads to its array's manifest, the manifest to trial folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from perfbench.errors import LaunchError
from perfbench.launch.slurm import controller
from perfbench.launch.slurm.controller import QueuedJob
from perfbench.launch.slurm.manifest import ArrayManifest, manifest_of_job
from perfbench.launch.states import JobOfTrial

_RUNNING = frozenset({"running", "suspended", "stopped"})


def queue_if_known() -> tuple[list[QueuedJob], str]:
    """Return the queue, and why it is not known; empty if it is, or where there is no Slurm at all."""
    if shutil.which("sinfo") is None:
        return [], ""
    if not controller.is_reachable():
        return [], "its controller does not answer"
    try:
        return controller.queued_jobs(), ""
    except LaunchError as problem:
        return [], problem.what


def jobs_by_trial(runs_root: Path, queue: Sequence[QueuedJob]) -> dict[Path, JobOfTrial]:
    """Return the job that is to run each trial of a run folder."""
    known: dict[str, ArrayManifest | None] = {}
    jobs: dict[Path, JobOfTrial] = {}
    for job in queue:
        if job.name not in known:
            known[job.name] = manifest_of_job(runs_root, job.name)
        manifest = known[job.name]
        if manifest is None or job.index >= len(manifest.trial_folders):
            continue
        jobs[manifest.trial_path(job.index)] = JobOfTrial(
            job_id=job.job_id,
            is_running=job.state in _RUNNING,
            reason=job.reason,
            nodes=job.nodes,
            is_held=job.is_held,
        )
    return jobs


def array_jobs(runs_root: Path, queue: Sequence[QueuedJob]) -> list[str]:
    """Return the ids of all arrays of a run folder that have not ended, each once."""
    names = {job.name: job.array_job_id for job in queue}
    return sorted({job_id for name, job_id in names.items() if manifest_of_job(runs_root, name) is not None})


def held_jobs(jobs: Iterable[JobOfTrial]) -> list[str]:
    """Return the ids of the jobs that wait until somebody releases them."""
    return [job.job_id for job in jobs if job.is_held]
