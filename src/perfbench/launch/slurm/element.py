"""One array element: runs one trial's ranks through ``srun``, watches them, and decides what their end means.

It is the job's only process outside of ``srun``. Signals only set a flag. The element requeues its own job when the
trial was told to stop and Slurm means to end the job; when Slurm itself requeues or cancels, it just ends. A job that
ends without a result has failed, whatever the reason: the scoring job looks after its trial.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from perfbench.errors import ExitCode, LaunchError
from perfbench.launch.ending import crash_result, failed_at_start, failure_seen, first_cause, was_told_to_stop
from perfbench.launch.slurm import controller
from perfbench.launch.slurm.lease import Lease
from perfbench.launch.slurm.manifest import ArrayManifest
from perfbench.launch.slurm.step import Attempt, StepEnd, run_step
from perfbench.launch.slurm.step_errors import failure_of_step, was_killed_first
from perfbench.launch.stacks import hang_failure
from perfbench.results.store import Failure, TrialFolder
from perfbench.spec.result import Crashed, Diverged, FailureReason
from perfbench.tracking.beside import Mirror, NoMirror, mirrored

_NUM_STARTS = 3
"""So often a job starts ranks that fail before they train."""
_PAUSE_S = 5.0


class SignalFlag:
    """Set by the signals with which Slurm announces an end; nothing happens inside the handler."""

    def __init__(self) -> None:
        self._is_set = False
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._set)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)

    def __call__(self) -> bool:
        """Tell whether the job is to end."""
        return self._is_set

    def _set(self, _number: int, _frame: object) -> None:
        self._is_set = True


def run_element(manifest_path: str, index: int) -> None:
    """Run or continue the trial of one element; what every job calls.

    Raises:
        SystemExit: With an exit code other than 0 where the job shall be shown as failed.
    """
    flag = SignalFlag()
    manifest = ArrayManifest.read(Path(manifest_path))
    folder = TrialFolder(manifest.trial_path(index))
    job_id = controller.own_job_id(is_array=len(manifest.trial_folders) > 1)
    lease = Lease(folder.path, f"{job_id}.{os.environ.get('SLURM_RESTART_COUNT', '0')}")
    with lease.held():
        folder.reopen_after_crash()
        if folder.result() is None:
            _run_attempts(manifest, folder, lease, flag, job_id)
    if not _has_succeeded(folder):
        raise SystemExit(int(ExitCode.RUN_FAILED))


def _run_attempts(
    manifest: ArrayManifest, folder: TrialFolder, lease: Lease, must_end: Callable[[], bool], job_id: str
) -> None:
    """Run an attempt; one that fails before it trains is tried again, since nothing of it counts."""
    with mirrored(folder, manifest.tracking, _tell) as mirror:
        for step_number in range(_NUM_STARTS):
            attempt = Attempt(
                manifest=manifest,
                folder=folder,
                lease=lease,
                job_id=job_id,
                number=folder.num_attempts() + 1,
                step_number=step_number,
            )
            failure = _run_attempt(attempt, must_end, mirror)
            if failure is None:
                return
            is_last = step_number == _NUM_STARTS - 1 or must_end()
            if is_last or not failed_at_start(folder, failure):
                folder.write_result(crash_result(folder, failure, attempt.number))
                return
            _tell(f"attempt {attempt.number} failed before it trained, and is tried again: {failure.message}")
            time.sleep(_PAUSE_S)


def _run_attempt(attempt: Attempt, must_end: Callable[[], bool], mirror: Mirror | NoMirror) -> Failure | None:
    """Return why the attempt failed; ``None`` if it did not, or goes on in another job."""
    folder, cluster = attempt.folder, attempt.manifest.cluster
    place = {"job": attempt.job_id, "nodes": os.environ.get("SLURM_JOB_NODELIST", "")}
    folder.append_telemetry("started", {"attempt": attempt.number, **place})
    if attempt.number > cluster.max_attempts:
        reason = f"{attempt.number - 1} attempts have brought no result (cluster.max_attempts)"
        failure = failure_seen(attempt.number, FailureReason.NODE, reason)
        folder.write_result(crash_result(folder, failure, attempt.number))
        return None
    end = run_step(attempt, must_end)
    if attempt.lease.is_lost():
        raise SystemExit(int(ExitCode.RUN_FAILED))
    if folder.result() is None:
        return _conclude(attempt, end, is_ending=must_end(), before_requeue=mirror.close_soon)
    if not cluster.keep_checkpoints:
        folder.drop_checkpoints()
    return None


def _tell(warning: str) -> None:
    print(f"warning: {warning}", flush=True)  # noqa: T201 - the job's log


def _conclude(attempt: Attempt, end: StepEnd, *, is_ending: bool, before_requeue: Callable[[], None]) -> Failure | None:
    """Without a result: requeue what was told to stop, name what failed, leave alone what Slurm takes back."""
    folder, number = attempt.folder, attempt.number
    if not controller.may_run(attempt.job_id):
        return None  # Slurm requeues or cancels the job, and decides what comes next
    if end.hung:
        return hang_failure(folder, number)
    failures = folder.failures(attempt=number)
    if end.overdue or (not failures and (is_ending or was_told_to_stop(folder, number))):
        before_requeue()
        _requeue(attempt.job_id)
        return None
    cause = first_cause(failures)
    killed = failure_of_step(end.stderr, end.exit_code, number)
    is_echo = cause is None or cause.reason is FailureReason.NODE or was_killed_first(end.stderr)
    return killed if cause is None or is_echo else cause


def _requeue(job_id: str) -> None:
    try:
        controller.requeue(job_id)
    except LaunchError as problem:
        if controller.may_run(job_id):  # else Slurm was so fast that it ended its own command
            print(f"not requeued: {problem}", flush=True)  # noqa: T201 - the job's log
            raise SystemExit(int(ExitCode.RUN_FAILED)) from None
    time.sleep(60)  # Slurm ends this job within seconds; what came after would be a second end


def _has_succeeded(folder: TrialFolder) -> bool:
    result = folder.result()
    return result is not None and not isinstance(result.outcome, Crashed | Diverged)
