"""Submitting a sweep: everything is checked, everything is written, then everything is handed over, or nothing is."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from submitit.core.utils import FailedJobError, FailedSubmissionError

from perfbench.errors import LaunchError
from perfbench.launch.slurm import controller
from perfbench.launch.slurm.aggregation import aggregate
from perfbench.launch.slurm.arrays import ArrayPlan
from perfbench.launch.slurm.element import run_element
from perfbench.launch.slurm.manifest import ArrayManifest, books_folder, new_array_id
from perfbench.launch.slurm.sbatch import (
    aggregation_parameters,
    array_text,
    element_parameters,
    environment_of_jobs,
    executor_for,
)
from perfbench.launch.slurm.snapshot import outside_submission, site_file, snapshot_folder, take_snapshot
from perfbench.places import own_site_scripts
from perfbench.registry import repository_root
from perfbench.results.store import TrialFolder
from perfbench.spec.run import NoTracking, SlurmCluster, TrackingSpec, TrialSpec

_NUM_TRIES = 3
_PAUSE_S = 5.0
_PATTERN = re.compile(r"%[jtAa]|[\x00-\x1f\\]")
"""What submitit replaces in paths (``%`` otherwise is escaped), and what no job script can hold."""


@dataclass(slots=True)
class Submitted:
    """What was handed over, and what would have to be undone."""

    job_ids: list[str] = field(default_factory=list)
    aggregation_job_id: str = ""
    claimed: list[TrialFolder] = field(default_factory=list)
    """Trial folders that did not exist before."""
    doubts: list[str] = field(default_factory=list)
    """What Slurm takes, and may not run soon."""


def manifests_for(
    arrays: Sequence[ArrayPlan],
    cluster: SlurmCluster,
    runs_root: Path,
    *,
    snapshot: Path,
    outside: str | None,
    tracking: TrackingSpec,
) -> list[ArrayManifest]:
    """Return the manifests that the arrays would have; nothing is written."""
    return [
        ArrayManifest(
            array_id=new_array_id(),
            title=array.title,
            cluster=cluster,
            tracking=tracking,
            runs_root=str(runs_root),
            snapshot=str(snapshot),
            submission_folder=outside_submission(snapshot, outside),
            trial_folders=tuple(
                str(TrialFolder.of(runs_root, trial).path.relative_to(runs_root)) for trial in array.trials
            ),
            time_limit_min=array.time_limit_min,
        )
        for array in arrays
    ]


def texts(arrays: Sequence[ArrayPlan], cluster: SlurmCluster, runs_root: Path) -> list[str]:
    """Return what ``sbatch`` would get for each array, for a dry run."""
    return [array_text(manifest) for manifest in _imagined(arrays, cluster, runs_root)]


def doubts_of_plan(arrays: Sequence[ArrayPlan], cluster: SlurmCluster, runs_root: Path) -> list[str]:
    """Ask Slurm about a plan without writing anything; return what it may not run soon.

    Raises:
        LaunchError: If it would refuse an array.
    """
    return doubts_about(_imagined(arrays, cluster, runs_root))


def _imagined(arrays: Sequence[ArrayPlan], cluster: SlurmCluster, runs_root: Path) -> list[ArrayManifest]:
    outside = _outside_folder(arrays)
    snapshot = snapshot_folder(runs_root, submission_folder=outside)
    return manifests_for(arrays, cluster, runs_root, snapshot=snapshot, outside=outside, tracking=NoTracking())


def submit(
    arrays: Sequence[ArrayPlan],
    cluster: SlurmCluster,
    runs_root: Path,
    *,
    after: Sequence[str],
    tracking: TrackingSpec,
    claim: Callable[[TrialSpec, TrialFolder], bool] = lambda trial, folder: folder.claim(trial),
) -> Submitted:
    """Hand arrays and the scoring job to Slurm, and return at once.

    Args:
        arrays: What to run.
        cluster: How.
        runs_root: Absolute.
        after: Jobs submitted earlier that the scores also wait for.
        tracking: Where to mirror the trials.
        claim: Makes a folder a trial's own before it is handed over.

    Raises:
        LaunchError: If anything is refused: then nothing stays submitted, and no new folder is left.
    """
    controller.require_slurm()
    check_site(cluster)
    outside = _outside_folder(arrays)
    done = Submitted()
    manifests: list[ArrayManifest] = []
    try:
        snapshot = take_snapshot(runs_root, submission_folder=outside)
        manifests = manifests_for(arrays, cluster, runs_root, snapshot=snapshot, outside=outside, tracking=tracking)
        done.doubts += doubts_about(manifests)
        for array, manifest in zip(arrays, manifests, strict=True):
            _claim(array, runs_root, done, claim)
            manifest.write()
        for manifest in manifests:
            done.job_ids.append(submit_array(manifest))
        done.aggregation_job_id = submit_aggregation(cluster, runs_root, snapshot, after_jobs=(*after, *done.job_ids))
    except BaseException:
        _undo(done, manifests)
        raise
    return done


def check_site(cluster: SlurmCluster) -> None:
    """Check that a site's set-up script exists.

    Raises:
        LaunchError: If not.
    """
    own = own_site_scripts()
    if cluster.site is None or cluster.site in own or site_file(repository_root(), cluster.site).exists():
        return
    known = sorted({*own, *(path.stem for path in (repository_root() / "slurm" / "sites").glob("*.sh"))})
    raise LaunchError(
        f"no set-up script of a site named {cluster.site!r}",
        where="cluster.site",
        hint=f"slurm/sites/ has {', '.join(known)}",
    )


def _outside_folder(arrays: Sequence[ArrayPlan]) -> str | None:
    folders = {trial.submission.folder for array in arrays for trial in array.trials} - {None}
    if len(folders) > 1:
        raise LaunchError(
            "a sweep can have one submission from outside of the repository",
            where="submission.folder",
            hint="sweep them one after the other",
        )
    return next(iter(folders), None)


def _claim(array: ArrayPlan, runs_root: Path, done: Submitted, claim: Callable[[TrialSpec, TrialFolder], bool]) -> None:
    for trial in array.trials:
        folder = TrialFolder.of(runs_root, trial)
        if claim(trial, folder):
            done.claimed.append(folder)


def doubts_about(manifests: Sequence[ArrayManifest]) -> list[str]:
    """Ask Slurm about one array of each kind (they differ in their time limit only); return what it may not run soon.

    Raises:
        LaunchError: If it would take one never.
    """
    kinds = {manifest.time_limit_min: manifest for manifest in manifests}.values()
    found = (controller.check_acceptable(array_text(manifest)) for manifest in kinds)
    return list(dict.fromkeys(doubt for doubt in found if doubt))


def check_paths(runs_root: Path) -> None:
    """Check that Slurm and submitit can write to the run folder's path.

    Raises:
        LaunchError: If what they take for a pattern is in it.
    """
    if found := _PATTERN.search(str(runs_root)):
        raise LaunchError(
            f"{found[0]!r} in the path of the run folder means something else to Slurm",
            where="runs_root",
            hint="choose another name for the folder",
        )


def submit_array(manifest: ArrayManifest) -> str:
    """Hand a written manifest's array to Slurm; return its job.

    Raises:
        LaunchError: If it is refused.
    """

    def submit_once() -> str:
        executor = executor_for(manifest.folder, element_parameters(manifest))
        with executor.batch():
            jobs = [
                executor.submit(run_element, str(manifest.path), index) for index in range(len(manifest.trial_folders))
            ]
        return str(jobs[0].job_id).partition("_")[0]

    return _persistently(submit_once, manifest.job_name, manifest.cluster)


def submit_aggregation(cluster: SlurmCluster, runs_root: Path, snapshot: Path, *, after_jobs: tuple[str, ...]) -> str:
    """Hand the job to Slurm that looks after trials and scores when these jobs have ended; return it.

    Raises:
        LaunchError: If it is refused.
    """
    name = f"scores.{new_array_id()}"
    folder = books_folder(runs_root) / "aggregation"
    parameters = aggregation_parameters(name, cluster, str(snapshot), folder=folder, after_jobs=after_jobs)

    def submit_once() -> str:
        return str(executor_for(folder, parameters).submit(aggregate, str(runs_root)).job_id)

    return _persistently(submit_once, name, cluster)


def _persistently(submit_once: Callable[[], str], job_name: str, cluster: SlurmCluster) -> str:
    """Submit; when the controller did not answer in time, find out whether it had heard, and try again."""
    for attempt in range(1, _NUM_TRIES + 1):
        try:
            with contextlib.redirect_stderr(io.StringIO()), environment_of_jobs(cluster.inherit):
                return submit_once()  # submitit prints what it also raises
        except (FailedJobError, FailedSubmissionError) as problem:
            message = str(problem)
            if not controller.is_busy(message) or attempt == _NUM_TRIES:
                raise controller.refusal(message) from None
        time.sleep(_PAUSE_S)
        controller.cancel(sorted({job.array_job_id for job in controller.queued_jobs() if job.name == job_name}))
    raise AssertionError("the last try returns or raises")


def _undo(done: Submitted, manifests: Sequence[ArrayManifest]) -> None:
    with contextlib.suppress(LaunchError):  # the first error is what a person needs to see
        controller.cancel(done.job_ids)
    for manifest in manifests:
        shutil.rmtree(manifest.folder, ignore_errors=True)
    for folder in done.claimed:
        with contextlib.suppress(LaunchError, OSError):  # another process runs it meanwhile: it keeps it
            folder.give_up()
        for parent in list(folder.path.parents)[:3]:  # workload, study, submission: if nothing else is in them
            with contextlib.suppress(OSError):
                parent.rmdir()
