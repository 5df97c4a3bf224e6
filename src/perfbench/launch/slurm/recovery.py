"""Trials that Slurm has lost: started, without a result, and without a job that would go on with them.

However a job ends, Slurm may end it for good: a node that comes back while its job is launched again, a limit that
comes too early, memory of the whole job. The scoring job runs when all arrays have ended, and puts such trials back.
What a person has cancelled stays cancelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from perfbench.errors import PerfbenchError
from perfbench.launch.slurm import controller
from perfbench.launch.slurm.manifest import ArrayManifest, manifests, new_array_id, submitting
from perfbench.launch.slurm.queue import array_jobs, jobs_by_trial
from perfbench.launch.slurm.submission import submit_aggregation, submit_array
from perfbench.launch.states import JobOfTrial
from perfbench.results.store import TrialFolder

MOST_TIMES = 3
"""So often a trial is put back; then something is wrong that a person has to see."""
_CANCELLED = re.compile(rb"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+ \*\*\*")
"""Slurm's word in a job's log for what a person ends; for all else it says what was the reason."""
_END_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Element:
    """Where a trial stands in the array that was submitted last for it."""

    manifest: ArrayManifest
    index: int

    @property
    def path(self) -> Path:
        """Return the trial's folder."""
        return self.manifest.trial_path(self.index)

    @property
    def is_array(self) -> bool:
        """Tell whether the job is one of several."""
        return len(self.manifest.trial_folders) > 1


def put_back(runs_root: Path) -> list[str]:
    """Submit again what Slurm has lost, as it was submitted before, and a job that scores after it; return the jobs.

    Raises:
        LaunchError: If Slurm does not answer, or refuses.
    """
    with submitting(runs_root):
        queue = controller.queued_jobs()
        lost = lost_elements(runs_root, jobs_by_trial(runs_root, queue))
        groups: dict[str, list[Element]] = {}
        for element in lost:
            groups.setdefault(element.manifest.array_id, []).append(element)
        job_ids = [submit_array(_again(elements)) for elements in groups.values()]
        if job_ids:
            first = lost[0].manifest
            after = (*array_jobs(runs_root, queue), *job_ids)
            submit_aggregation(first.cluster, runs_root, Path(first.snapshot), after_jobs=after)
        return job_ids


def lost_elements(runs_root: Path, jobs: Mapping[Path, JobOfTrial]) -> list[Element]:
    """Return the trials that were started, have no result, and that nothing and nobody takes care of.

    Args:
        runs_root: Absolute.
        jobs: The queue, by trial folder.

    Raises:
        LaunchError: If Slurm does not answer.
    """
    latest: dict[str, Element] = {}
    for manifest in manifests(runs_root):
        latest |= {name: Element(manifest, index) for index, name in enumerate(manifest.trial_folders)}
    waiting = [element for element in latest.values() if element.path not in jobs and _is_unfinished(element)]
    if not waiting:
        return []
    endings = _endings(waiting)
    return [element for element in waiting if _is_lost(element, endings.get(element.path, ""))]


def _is_unfinished(element: Element) -> bool:
    folder = TrialFolder(element.path)
    try:
        return folder.result() is None and (element.path / "run.json").exists() and not folder.is_running()
    except (PerfbenchError, OSError):
        return False  # damaged: a person has to look at it


def _is_lost(element: Element, ending: str) -> bool:
    """Tell whether Slurm, and not a person, ended the job of a trial.

    Args:
        element: Without a result.
        ending: What Slurm remembers of its job; empty if it has forgotten it.
    """
    manifest = element.manifest
    if manifest.num_put_back >= MOST_TIMES or manifest.was_cancelled() or ending.startswith("cancelled"):
        return False
    if ending:
        return True
    started = TrialFolder(element.path).num_attempts() > 0
    return started and not any(_says_cancelled(log) for log in _last_logs(element))


def _endings(elements: list[Element]) -> dict[Path, str]:
    """Return how Slurm remembers that the jobs of these trials ended."""
    by_job = {(one.manifest.job_name, one.index): one.path for one in elements}
    accounted = controller.accounted_states(sorted({job_id for one in elements for job_id in _array_job_ids(one)}))
    found = {}
    for one in elements:
        for job_id in _array_job_ids(one):
            if state := accounted.get(f"{job_id}_{one.index}" if one.is_array else job_id):
                found[one.path] = state
    for job in controller.remembered_jobs():
        if (path := by_job.get((job.name, job.index))) is not None:
            found[path] = job.state
    return found


def _array_job_ids(element: Element) -> list[str]:
    """Return the jobs under which an array was submitted: submitit names its files after them."""
    names = {path.name.partition("_")[0] for path in element.manifest.folder.glob("*_submitted.pkl")}
    return sorted(name for name in names if name.isdecimal())


def _last_logs(element: Element) -> Iterator[Path]:
    pattern = f"*_{element.index}_0_log.out" if element.is_array else "*_0_log.out"
    yield from element.manifest.folder.glob(pattern)


def _says_cancelled(log: Path) -> bool:
    """Tell whether the last end that Slurm wrote into a job's log is one by a person."""
    try:
        text = log.read_bytes()[-_END_BYTES:]
    except OSError:
        return False
    ends = [line for line in text.splitlines() if b"CANCELLED AT" in line]
    return bool(ends) and _CANCELLED.search(ends[-1]) is not None


def _again(elements: list[Element]) -> ArrayManifest:
    """Write the manifest under which the lost trials of an array are submitted once more: same code, same settings."""
    before = elements[0].manifest
    manifest = before.model_copy(
        update={
            "array_id": new_array_id(),
            "trial_folders": tuple(one.manifest.trial_folders[one.index] for one in elements),
            "num_put_back": before.num_put_back + 1,
        }
    )
    manifest.write()
    return manifest
