"""One array element: runs one trial's ranks through ``srun``, watches them, and decides what their end means.

It is the job's only process outside of ``srun``. Signals only set a flag. The element requeues its own job when the
trial was told to stop and Slurm means to end the job; when Slurm itself requeues or cancels, it just ends.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perfbench.errors import ExitCode, LaunchError
from perfbench.launch.ending import crash_result, failure_seen, first_cause
from perfbench.launch.slurm import controller
from perfbench.launch.slurm.lease import Lease
from perfbench.launch.slurm.manifest import ArrayManifest
from perfbench.launch.slurm.sbatch import signal_lead_s
from perfbench.launch.slurm.step_errors import failure_of_step, was_killed_first
from perfbench.launch.stacks import STACKS_GRACE_S, WATCH_PERIOD_S, any_stacks, hang_failure
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, Diverged, FailureReason
from perfbench.tracking.beside import mirrored

_POLL_S = 0.5
_END_S = 20.0
"""How much of the time between signal and limit is kept for ending ranks and requeueing, at most half of it."""


class SignalFlag:
    """Set by the signals with which Slurm announces an end; nothing happens inside the handler."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._set)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)

    def _set(self, _number: int, _frame: object) -> None:
        self.is_set = True


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How the ranks ended."""

    exit_code: int
    stderr: str
    """What ``srun`` said."""
    hung: bool = False
    overdue: bool = False
    """The ranks did not save in time and were ended: what they did since the last checkpoint is lost."""


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
            _run_attempt(manifest, folder, lease, flag, job_id)
    code = _exit_code(folder)
    if code:
        raise SystemExit(code)


def _run_attempt(manifest: ArrayManifest, folder: TrialFolder, lease: Lease, flag: SignalFlag, job_id: str) -> None:
    attempt = folder.num_attempts() + 1
    place = {"job": job_id, "nodes": os.environ.get("SLURM_JOB_NODELIST", "")}
    folder.append_telemetry("started", {"attempt": attempt, **place})
    if attempt > manifest.cluster.max_attempts:
        reason = f"{attempt - 1} attempts have brought no result (cluster.max_attempts)"
        folder.write_result(crash_result(folder, failure_seen(attempt, FailureReason.NODE, reason), attempt))
        return
    command = _command(manifest, folder, attempt, lease.holder)
    with mirrored(folder, manifest.tracking, _tell) as mirror:
        end = _run_step(manifest, folder, lease, flag, command, attempt, job_id)
        if lease.is_lost():
            raise SystemExit(int(ExitCode.RUN_FAILED))
        if folder.result() is None:
            _conclude(folder, end, attempt, job_id, is_ending=flag.is_set, before_requeue=mirror.close_soon)
        elif not manifest.cluster.keep_checkpoints:
            shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _tell(warning: str) -> None:
    print(f"warning: {warning}", flush=True)  # noqa: T201 - the job's log


def _command(manifest: ArrayManifest, folder: TrialFolder, attempt: int, holder: str) -> list[str]:
    """Return the ``srun`` command that starts the ranks."""
    cluster = manifest.cluster
    logs = str(folder.logs / "rank_%t.log")
    rank = [
        *shlex.split(os.path.expandvars(cluster.python) if cluster.python else shlex.quote(sys.executable)),
        *("-u", "-m", "perfbench.launch.slurm.rank", str(folder.path)),
        *("--attempt", str(attempt), "--holder", holder, "--hang-timeout-s", str(cluster.hang_timeout_s)),
    ]
    if manifest.submission_folder is not None:
        rank += ["--submission-folder", manifest.submission_folder]
    return [
        *("srun", "--kill-on-bad-exit=1", "--export=ALL", "--open-mode=append"),
        *(f"--nodes={cluster.nodes}", f"--ntasks-per-node={cluster.gpus_per_node}"),
        *(f"--output={logs}", f"--error={logs}"),
        *([] if cluster.cpus_per_rank is None else [f"--cpus-per-task={cluster.cpus_per_rank}"]),
        *cluster.srun_arguments,
        *rank,
    ]


def _environment(manifest: ArrayManifest, folder: TrialFolder) -> dict[str, str]:
    """Return the ranks' environment: the rendezvous is on the first node, where this process runs."""
    cluster = manifest.cluster
    first = os.environ.get("SLURMD_NODENAME", socket.gethostname()) if cluster.nodes > 1 else "127.0.0.1"
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    threads = folder.trial().scale.threads_per_rank or cluster.cpus_per_rank
    return os.environ | {
        "MASTER_ADDR": first,
        "MASTER_PORT": str(port),
        "LOCAL_WORLD_SIZE": str(cluster.gpus_per_node),
        **({"OMP_NUM_THREADS": str(threads)} if threads else {}),
    }


def _run_step(
    manifest: ArrayManifest,
    folder: TrialFolder,
    lease: Lease,
    flag: SignalFlag,
    command: list[str],
    attempt: int,
    job_id: str,
) -> StepEnd:
    """Run the ranks to their end; hand a signal on to them once, and end them all if one hangs."""
    errors = folder.logs / f"srun_attempt_{attempt}.log"
    hung_since_s: float | None = None
    told_since_s: float | None = None
    saving_s = _saving_s(manifest)
    is_overdue = False
    with errors.open("wb") as file:
        step = subprocess.Popen(
            command, env=_environment(manifest, folder), stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        while step.poll() is None:
            time.sleep(_POLL_S)
            now_s = time.monotonic()
            if lease.is_lost():
                step.kill()  # the ranks see it too; the job's steps now belong to a later attempt
                time.sleep(2 * WATCH_PERIOD_S)
                continue
            if flag.is_set and told_since_s is None:
                told_since_s = now_s
                step.send_signal(signal.SIGUSR2)  # srun hands it on to every rank
            if hung_since_s is None and any_stacks(folder, attempt):
                hung_since_s = now_s
            is_overdue = told_since_s is not None and now_s > told_since_s + saving_s
            if is_overdue or (hung_since_s is not None and now_s > hung_since_s + STACKS_GRACE_S):
                _kill_step(step, job_id)
    output = errors.read_text(errors="replace")
    return StepEnd(step.wait(), output, hung=hung_since_s is not None, overdue=is_overdue)


def _saving_s(manifest: ArrayManifest) -> float:
    """Return how long ranks may take to save and end once they are told to."""
    lead_s = float(signal_lead_s(manifest))
    return max(lead_s / 2, lead_s - _END_S)


def _kill_step(step: subprocess.Popen[bytes], job_id: str) -> None:
    """End all ranks; SIGKILL for a whole job would cancel it, this process included: the step is named."""
    command = ["scancel", "--signal=KILL", f"{job_id}.0"]
    try:
        subprocess.run(command, capture_output=True, timeout=60, check=False)
        step.wait(timeout=20)
    except subprocess.TimeoutExpired:
        step.kill()


def _conclude(
    folder: TrialFolder,
    end: StepEnd,
    attempt: int,
    job_id: str,
    *,
    is_ending: bool,
    before_requeue: Callable[[], None],
) -> None:
    """Without a result: requeue what was told to stop, record what failed, leave alone what Slurm takes back."""
    if not controller.may_run(job_id):
        return  # Slurm requeues or cancels the job, and decides what comes next
    failures = folder.failures(attempt=attempt)
    if end.hung:
        failure = hang_failure(folder, attempt)
    elif end.overdue or (not failures and (end.exit_code == 0 or is_ending)):
        before_requeue()
        try:
            controller.requeue(job_id)
        except LaunchError as problem:
            if controller.may_run(job_id):  # else Slurm was so fast that it ended its own command
                print(f"not requeued: {problem}", flush=True)  # noqa: T201 - the job's log
                raise SystemExit(int(ExitCode.RUN_FAILED)) from None
        time.sleep(60)  # Slurm ends this job within seconds; what came after would be a second end
        return
    else:
        cause = first_cause(failures)
        killed = failure_of_step(end.stderr, end.exit_code, attempt)
        is_echo = cause is None or cause.reason is FailureReason.NODE or was_killed_first(end.stderr)
        failure = killed if cause is None or is_echo else cause
    folder.write_result(crash_result(folder, failure, attempt))


def _exit_code(folder: TrialFolder) -> int:
    result = folder.result()
    has_failed = result is not None and isinstance(result.outcome, Crashed | Diverged)
    return int(ExitCode.RUN_FAILED if has_failed else ExitCode.DONE)
