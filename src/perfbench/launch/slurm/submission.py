"""Submitting a sweep: everything is checked, everything is written, then everything is handed over, or nothing is."""

from __future__ import annotations

import contextlib
import io
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
    executor_for,
    site_file,
)
from perfbench.launch.slurm.snapshot import outside_submission, snapshot_folder, take_snapshot
from perfbench.registry import repository_root
from perfbench.results.store import TrialFolder
from perfbench.spec.run import NoTracking, SlurmCluster, TrackingSpec, TrialSpec

_NUM_TRIES = 3
_PAUSE_S = 5.0


@dataclass(slots=True)
class Submitted:
    """What was handed over, and what would have to be undone."""

    job_ids: list[str] = field(default_factory=list)
    aggregation_job_id: str = ""
    claimed: list[Path] = field(default_factory=list)
    """Trial folders that did not exist before."""


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
    outside = _outside_folder(arrays)
    snapshot = snapshot_folder(runs_root, submission_folder=outside)
    manifests = manifests_for(arrays, cluster, runs_root, snapshot=snapshot, outside=outside, tracking=NoTracking())
    return [array_text(manifest) for manifest in manifests]


def submit(
    arrays: Sequence[ArrayPlan],
    cluster: SlurmCluster,
    runs_root: Path,
    *,
    after: Sequence[str],
    tracking: TrackingSpec,
    claim: Callable[[TrialSpec, TrialFolder], None] = lambda trial, folder: folder.claim(trial),
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
        _check_acceptable(manifests)
        for array, manifest in zip(arrays, manifests, strict=True):
            _claim(array, runs_root, done, claim)
            manifest.write()
        for manifest in manifests:
            done.job_ids.append(_submit_array(manifest))
        done.aggregation_job_id = _submit_aggregation(cluster, runs_root, snapshot, after_jobs=(*after, *done.job_ids))
    except BaseException:
        _undo(done, manifests)
        raise
    return done


def check_site(cluster: SlurmCluster) -> None:
    """Check that a site's set-up script exists.

    Raises:
        LaunchError: If not.
    """
    if cluster.site is None or site_file(repository_root(), cluster.site).exists():
        return
    known = sorted(path.stem for path in (repository_root() / "slurm" / "sites").glob("*.sh"))
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


def _claim(array: ArrayPlan, runs_root: Path, done: Submitted, claim: Callable[[TrialSpec, TrialFolder], None]) -> None:
    for trial in array.trials:
        folder = TrialFolder.of(runs_root, trial)
        if not folder.path.exists():
            done.claimed.append(folder.path)
        claim(trial, folder)


def _check_acceptable(manifests: Sequence[ArrayManifest]) -> None:
    """Ask Slurm about one array of each kind: they differ in their time limit only."""
    for manifest in {manifest.time_limit_min: manifest for manifest in manifests}.values():
        script = books_folder(Path(manifest.runs_root)) / f"check.{manifest.array_id}.sh"
        try:
            script.write_text(array_text(manifest))
            controller.check_acceptable(str(script))
        finally:
            script.unlink(missing_ok=True)


def _submit_array(manifest: ArrayManifest) -> str:
    def submit_once() -> str:
        executor = executor_for(manifest.folder, element_parameters(manifest))
        with executor.batch():
            jobs = [
                executor.submit(run_element, str(manifest.path), index) for index in range(len(manifest.trial_folders))
            ]
        return str(jobs[0].job_id).partition("_")[0]

    return _persistently(submit_once, manifest.job_name)


def _submit_aggregation(cluster: SlurmCluster, runs_root: Path, snapshot: Path, *, after_jobs: tuple[str, ...]) -> str:
    name = f"scores.{new_array_id()}"
    folder = books_folder(runs_root) / "aggregation"
    parameters = aggregation_parameters(name, cluster, str(snapshot), after_jobs=after_jobs)
    return _persistently(lambda: str(executor_for(folder, parameters).submit(aggregate, str(runs_root)).job_id), name)


def _persistently(submit_once: Callable[[], str], job_name: str) -> str:
    """Submit; when the controller did not answer in time, find out whether it had heard, and try again."""
    for attempt in range(1, _NUM_TRIES + 1):
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it also raises
                return submit_once()
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
    for folder in (*(manifest.folder for manifest in manifests), *done.claimed):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in done.claimed:
        for parent in list(folder.parents)[:3]:  # workload, study, submission: if nothing else is in them
            with contextlib.suppress(OSError):
                parent.rmdir()
