"""Everything that can be known to fail is found here, before any process starts.

Imports no torch and no submission: what only a submission's own code knows is asked in a process of its own.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from perfbench.data.preparation import MANIFEST_NAME, PrepareRequest, Progress, data_folder
from perfbench.engine.trainer.confinement import LEAST_ABI, landlock_version
from perfbench.errors import DataError, LaunchError, SubmissionError
from perfbench.launch.room import Room
from perfbench.registry import check_unshipped_files, params_of, preparer_of
from perfbench.results.locks import held
from perfbench.results.store import is_writable
from perfbench.spec.environment import Isolation
from perfbench.spec.run import TrialSpec
from perfbench.spec.workload import WorkloadSpec


def check_trial(trial: TrialSpec, runs_root: Path, progress: Progress, *, prepares: bool = True) -> None:
    """Check parameters, files, run folder and data; prepare small data that is missing.

    Args:
        trial: What is to run.
        runs_root: Where to.
        progress: Told how far preparing is.
        prepares: Whether data may be prepared; if not, data that could be counts as there.

    Raises:
        LaunchError: If torch is not installed, or the run folder cannot be written.
        ConfigError: If the workload's parameters are wrong.
        SubmissionError: If the submission needs a file that is not given.
        DataError: If the data is missing, truncated or of another version.
    """
    if find_spec("torch") is None:
        raise LaunchError(
            "a trial needs torch, which is not installed: this is an installation for readers of results",
            hint="pip install 'perfbench[all]'",
        )
    params_of(trial.workload)
    check_unshipped_files(trial.submission)
    if not is_writable(runs_root):
        raise LaunchError(
            "the run folder cannot be written", where=str(runs_root), hint="choose another with runs_root=..."
        )
    data_root, may_prepare = Path(trial.data_root), trial.scale.prepare_data
    if prepares or not may_prepare or _is_prepared(data_root, trial.workload):
        ensure_data(trial.workload, data_root, progress, may_prepare=may_prepare)


def check_submissions(trials: Sequence[TrialSpec]) -> None:
    """Check that every submission can be imported and reads its options, files and points.

    Done in a process of its own, confined if a trial will be: code of submissions never runs where trials are launched,
    and leaves nothing behind. It takes the seconds that torch takes to load.

    Raises:
        LaunchError: If it is to be confined, and this kernel cannot.
        SubmissionError: If one does not, or its code is missing.
    """
    wants_sandbox = any(trial.isolation is Isolation.SANDBOX for trial in trials)
    if wants_sandbox and (version := landlock_version()) < LEAST_ABI:
        raise LaunchError(
            f"a sandbox needs Landlock of version {LEAST_ABI} (Linux 6.12), this kernel has version {version}",
            where="isolation",
            hint="use isolation=process here",
        )
    asked = {(trial.submission.name, str(trial.hyperparameters)): trial for trial in trials}
    lines = [
        json.dumps({"submission": trial.submission.model_dump(mode="json"), "point": trial.hyperparameters})
        for trial in asked.values()
    ]
    with tempfile.TemporaryDirectory() as folder:
        room = Room.for_reading(trials, Path(folder).resolve())
        sandbox = "null" if room.sandbox is None else room.sandbox.to_json(indent=None)
        answer = Path(folder) / "answer.json"
        ended = subprocess.run(
            [sys.executable, "-m", "perfbench.launch.submission_reader", str(answer)],
            input="\n".join([sandbox, *lines]),
            capture_output=True,
            text=True,
            check=False,
            cwd=room.folder,
            env=room.environment,
        )
        found = json.loads(answer.read_text()) if answer.exists() else None
    if found is None:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SubmissionError(
            f"the process that reads it ended with exit code {ended.returncode}: {last}",
            where=f"submission {trials[0].submission.name}",
            hint="importing a submission must not end the process",
        )
    if found:
        raise SubmissionError(found["what"], where=found["where"], hint=found["hint"])


def ensure_data(workload: WorkloadSpec, data_root: Path, progress: Progress, *, may_prepare: bool) -> None:
    """Check that the workload's data is prepared and whole; prepare it if it is missing and that needs no source.

    Raises:
        DataError: If it is damaged, or missing and may not be prepared here.
    """
    folder = data_folder(data_root, workload)
    if may_prepare and not _is_prepared(data_root, workload):
        prepare_data(PrepareRequest(workload=workload, destination=folder, source=None, progress=progress, options={}))
    try:
        preparer_of(workload.family).verify(workload, folder, prepare_command=prepare_command(workload))
    except OSError as problem:
        raise _unusable(problem, "the data cannot be read", folder) from None


def _is_prepared(data_root: Path, workload: WorkloadSpec) -> bool:
    folder = data_folder(data_root, workload)
    try:
        return (folder / MANIFEST_NAME).exists()
    except OSError as problem:
        raise _unusable(problem, "the data cannot be read", folder) from None


def _unusable(problem: OSError, what: str, folder: Path) -> DataError:
    full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "" if full else "ask its owner for the permission, or choose another folder with data_root=..."
    return DataError.of_file(problem, what=what, where=str(folder), hint=hint)


def prepare_data(request: PrepareRequest) -> None:
    """Prepare data after checking that the disk can hold it; do nothing if another process just has.

    Raises:
        DataError: If the disk is too small or the source is not what it should be.
    """
    try:
        with _only_one_preparation(request.destination):
            if not (request.destination / MANIFEST_NAME).exists():
                _prepare(request)
    except OSError as problem:
        raise _unusable(problem, "the data cannot be prepared", request.destination) from None


def _prepare(request: PrepareRequest) -> None:
    preparer = preparer_of(request.workload.family)
    needed_bytes = preparer.required_bytes(request)
    request.destination.mkdir(parents=True, exist_ok=True)
    done_bytes = sum(path.stat().st_size for path in request.destination.rglob("*") if path.is_file())
    missing_bytes = needed_bytes - done_bytes  # an interrupted call may have written most of it
    free_bytes = shutil.disk_usage(request.destination).free
    if missing_bytes > free_bytes:
        raise DataError(
            f"preparing needs {missing_bytes / 1e9:.1f} GB, the disk has {free_bytes / 1e9:.1f} GB free",
            where=str(request.destination),
            hint="free some space, or choose another disk with data_root=...",
        )
    preparer.prepare(request)


@contextmanager
def _only_one_preparation(folder: Path) -> Iterator[None]:
    """Wait for a preparation of the same data by another process: two trials may be started at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.with_name(f".{folder.name}.lock"), busy="", patience_s=math.inf):
        yield


def prepare_command(workload: WorkloadSpec) -> str:
    """Return the command that prepares a workload's data."""
    source = " --source DIR" if workload.scale.value == "full" else ""
    return (
        f"perfbench data prepare {workload.family} --scale {workload.scale.value} --dataset {workload.dataset}{source}"
    )
