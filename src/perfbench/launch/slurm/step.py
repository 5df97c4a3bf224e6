"""The step of a job that holds the ranks: how ``srun`` is called, watched, signalled and ended."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perfbench.engine.wire import rendezvous
from perfbench.inherited import for_slurm, for_step
from perfbench.launch.slurm.lease import Lease
from perfbench.launch.slurm.manifest import ArrayManifest
from perfbench.launch.slurm.sbatch import escaped, signal_lead_s
from perfbench.launch.slurm.step_errors import waits_for_its_nodes
from perfbench.launch.stacks import STACKS_GRACE_S, WATCH_PERIOD_S, any_stacks
from perfbench.results.store import TrialFolder

_POLL_S = 0.5
_CREATION_S = 90.0
"""How long ``srun`` may say that it waits for nodes: one that came back at the wrong moment is busy for ever."""
_END_S = 20.0
"""How much of the time between signal and limit is kept for ending ranks and requeueing, at most half of it."""


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How the ranks ended."""

    exit_code: int
    stderr: str
    """What ``srun`` said."""
    hung: bool = False
    overdue: bool = False
    """The ranks did not start or save in time and were ended: what they did since the last checkpoint is lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One attempt of a trial inside of a job."""

    manifest: ArrayManifest
    folder: TrialFolder
    lease: Lease
    job_id: str
    number: int
    """Of all attempts of the trial."""
    step_number: int
    """How many steps the job had before."""


def run_step(attempt: Attempt, must_end: Callable[[], bool]) -> StepEnd:
    """Run the ranks to their end; hand a signal on to them once, and end them all if one hangs."""
    errors = attempt.folder.logs / f"srun_attempt_{attempt.number}.log"
    several = attempt.manifest.cluster.nodes > 1
    host = os.environ.get("SLURMD_NODENAME", socket.gethostname()) if several else "127.0.0.1"
    with errors.open("wb") as file, rendezvous.opened(host, is_local=not several) as meeting:
        step = subprocess.Popen(
            _command(attempt), env=_environment(attempt, meeting), stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        hung, overdue = _watched_to_the_end(step, attempt, must_end, errors)
    return StepEnd(step.wait(), errors.read_text(errors="replace"), hung=hung, overdue=overdue)


def _watched_to_the_end(
    step: subprocess.Popen[bytes], attempt: Attempt, must_end: Callable[[], bool], errors: Path
) -> tuple[bool, bool]:
    """Return whether a rank hung, and whether the ranks were told to end and did not in time, or could not start."""
    give_back_at_s = time.monotonic() + _CREATION_S
    hung_since_s: float | None = None
    told_since_s: float | None = None
    saving_s = _saving_s(attempt.manifest)
    is_overdue = False
    while step.poll() is None:
        time.sleep(_POLL_S)
        now_s = time.monotonic()
        if attempt.lease.is_lost():
            step.kill()  # the ranks see it too; the job's steps now belong to a later attempt
            time.sleep(2 * WATCH_PERIOD_S)
            continue
        if not waits_for_its_nodes(errors.read_text(errors="replace")):
            give_back_at_s = now_s + _CREATION_S  # srun may be silent for minutes before it says that it waits
        elif now_s > give_back_at_s:
            step.kill()  # there is no step yet, and a requeued job gets its nodes anew
            return False, True
        if must_end() and told_since_s is None:
            told_since_s = now_s
            step.send_signal(signal.SIGUSR2)  # srun hands it on to every rank
        if hung_since_s is None and any_stacks(attempt.folder, attempt.number):
            hung_since_s = now_s
        is_overdue = told_since_s is not None and now_s > told_since_s + saving_s
        if is_overdue or (hung_since_s is not None and now_s > hung_since_s + STACKS_GRACE_S):
            _kill_step(step, attempt)
    return hung_since_s is not None, is_overdue


def _command(attempt: Attempt) -> list[str]:
    """Return the ``srun`` command that starts the ranks."""
    manifest, folder, cluster = attempt.manifest, attempt.folder, attempt.manifest.cluster
    logs = f"{escaped(str(folder.logs))}/rank_%t.log"
    rank = [
        *shlex.split(os.path.expandvars(cluster.python) if cluster.python else shlex.quote(sys.executable)),
        *("-u", "-m", "perfbench.launch.slurm.rank", str(folder.path)),
        *("--attempt", str(attempt.number), "--holder", attempt.lease.holder),
        *("--hang-timeout-s", str(cluster.hang_timeout_s)),
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


def _environment(attempt: Attempt, meeting: str) -> dict[str, str]:
    """Return the environment of ``srun`` and its ranks."""
    cluster = attempt.manifest.cluster
    threads = attempt.folder.trial().scale.threads_per_rank or cluster.cpus_per_rank
    return for_step(os.environ, cluster.inherit) | {
        rendezvous.VARIABLE: meeting,
        "LOCAL_WORLD_SIZE": str(cluster.gpus_per_node),
        **({"OMP_NUM_THREADS": str(threads)} if threads else {}),
    }


def _saving_s(manifest: ArrayManifest) -> float:
    """Return how long ranks may take to save and end once they are told to."""
    lead_s = float(signal_lead_s(manifest))
    return max(lead_s / 2, lead_s - _END_S)


def _kill_step(step: subprocess.Popen[bytes], attempt: Attempt) -> None:
    """End all ranks; SIGKILL for a whole job would cancel it, this process included: the step is named."""
    command = ["scancel", "--signal=KILL", f"{attempt.job_id}.{attempt.step_number}"]
    try:
        subprocess.run(command, env=for_slurm(os.environ), capture_output=True, timeout=60, check=False)
        step.wait(timeout=20)
    except subprocess.TimeoutExpired:
        step.kill()
