"""Talking to Slurm's controller: each command with a time limit, tried again while the controller is busy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from perfbench.errors import LaunchError
from perfbench.inherited import for_slurm
from perfbench.launch.slurm.arrays import DEFAULT_MAX_ARRAY_SIZE

_TIMEOUT_S = 120.0
_NUM_TRIES = 4
_PAUSE_S = 3.0
_NO_ANSWER = "no answer in"
_BUSY = (
    "Socket timed out",
    "Unable to contact slurm controller",
    "Transport endpoint is not connected",
    "Zero Bytes were transmitted",
    "Protocol authentication error",  # munge under load
    "Resource temporarily unavailable",
    _NO_ANSWER,
)
_REQUEUE_PATIENCE_S = 1800.0
"""For a controller that is away: it ends no job either, so that there is time to wait for it."""
_QUEUE_FORMAT = "%A|%F|%K|%T|%r|%N|%j"
_NO_NODE = ("node configuration", "node count", "required node not available", "nodes required for job are")
_CLOSED = "down,drain,fail,maint,no_respond"
_MAX_NAMES = 8
_HELD = frozenset({"launch failed requeued held", "job requeued in held state", "JobHeldUser"})
"""Reasons that only a release ends. The first is Slurm's own doing, when a node was lost while it launched the job."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """One job, or one element of an array, that Slurm has not finished with."""

    job_id: str
    """As ``scancel`` takes it: ``123_4`` for an element."""
    array_job_id: str
    index: int
    """Of the element; 0 for a job that is no array."""
    state: str
    """Slurm's word, in lower case."""
    reason: str
    """Why it waits; empty if it does not say."""
    nodes: str
    name: str

    @property
    def is_held(self) -> bool:
        """Tell whether the job waits until somebody who may do so releases it."""
        return self.state == "pending" and self.reason in _HELD


def require_slurm() -> None:
    """Check that Slurm's commands are here.

    Raises:
        LaunchError: If not.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise LaunchError(
            "no sbatch on PATH: this machine is not part of a Slurm cluster",
            where="cluster",
            hint="run it on a login node; --dry-run works anywhere, and cluster=local needs no Slurm",
        )


def is_busy(message: str) -> bool:
    """Tell whether the controller did not answer in time, so that the request may or may not have been done."""
    return any(sign in message for sign in _BUSY)


def ask(command: Sequence[str]) -> str:
    """Return what a command that changes nothing, or may be repeated, prints.

    Raises:
        LaunchError: If it fails, with its own words.
    """
    for attempt in range(1, _NUM_TRIES + 1):
        try:
            done = _run(command)
        except FileNotFoundError:
            require_slurm()
            raise LaunchError(f"no {command[0]} on PATH", where="cluster") from None
        except subprocess.TimeoutExpired:
            message = f"{_NO_ANSWER} {_TIMEOUT_S:.0f} s"
        else:
            if done.returncode == 0:
                return done.stdout
            message = done.stderr.strip()
            if not is_busy(message):
                break
        if attempt < _NUM_TRIES:
            time.sleep(_PAUSE_S * attempt)
    raise LaunchError(
        f"{command[0]} failed: {' '.join(message.split()) or 'without a word'}",
        where="Slurm",
        hint="is this a login node of the cluster, and is its controller up? `sinfo` tells",
    )


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands on a text; it gets its options from us and from nowhere else."""
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=for_slurm(os.environ),
        timeout=_TIMEOUT_S,
        check=False,
    )


def queued_jobs() -> list[QueuedJob]:
    """Return every job of this user that has not ended, an array's elements one by one.

    Raises:
        LaunchError: If the controller does not answer.
    """
    return _jobs([])


def remembered_jobs() -> list[QueuedJob]:
    """Return every job of this user that Slurm still knows, ended ones too: it forgets them after minutes.

    Raises:
        LaunchError: If the controller does not answer.
    """
    return _jobs(["--states=all"])


def _jobs(options: Sequence[str]) -> list[QueuedJob]:
    text = ask(["squeue", "--me", "--noheader", "--array", f"--format={_QUEUE_FORMAT}", *options])
    return [_parsed_job(line) for line in text.splitlines() if line.count("|") >= _QUEUE_FORMAT.count("|")]


def accounted_states(array_job_ids: Sequence[str]) -> dict[str, str]:
    """Return how jobs have ended, by id (``123_4`` for an element), where the cluster keeps accounts; else nothing."""
    if not array_job_ids or shutil.which("sacct") is None:
        return {}
    command = ["sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,State"]
    try:
        text = ask([*command, f"--jobs={','.join(array_job_ids)}"])
    except LaunchError:
        return {}
    return {job_id: state.lower() for job_id, _, state in (line.partition("|") for line in text.splitlines())}


def _parsed_job(line: str) -> QueuedJob:
    """Read one line of the queue.

    >>> _parsed_job("17|15|2|PENDING|Priority||adamw.mnist.0a1b2c3d4e").job_id
    '15_2'
    >>> _parsed_job("18|18|N/A|RUNNING|None|n1|adamw.mnist.0a1b2c3d4e").index
    0
    """
    job_id, array_job_id, index, state, reason, nodes, name = line.split("|", 6)
    is_element = index.isdecimal()
    return QueuedJob(
        job_id=f"{array_job_id}_{index}" if is_element else job_id,
        array_job_id=array_job_id,
        index=int(index) if is_element else 0,
        state=state.lower(),
        reason="" if reason == "None" else reason,
        nodes=nodes,
        name=name,
    )


def own_job_id(*, is_array: bool) -> str:
    """Return the name of the job that this process belongs to, which means no other one.

    The plain number of an array's last element is also the number of the array: asked with it, Slurm tells of all
    elements, and requeues all of them.
    """
    if not is_array:
        return os.environ["SLURM_JOB_ID"]
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def may_run(job_id: str) -> bool:
    """Tell whether a job runs, or at least is not known to be taken back: a controller that is away decides nothing."""
    try:
        text = ask(["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T"])
    except LaunchError:
        return True
    return text.strip().lower() in ("running", "")


def requeue(job_id: str) -> None:
    """Put a running job back into the queue, as soon as the controller can be reached.

    Raises:
        LaunchError: If Slurm refuses, or stays away.
    """
    deadline_s = time.monotonic() + _REQUEUE_PATIENCE_S
    while True:
        try:
            ask(["scontrol", "requeue", job_id])
        except LaunchError as problem:
            if not is_busy(problem.what) or time.monotonic() > deadline_s:
                raise
        else:
            return


def release(job_ids: Sequence[str]) -> None:
    """Let held jobs start again.

    Raises:
        LaunchError: If Slurm refuses.
    """
    for job_id in job_ids:
        ask(["scontrol", "release", job_id])


def cancel(job_ids: Sequence[str]) -> None:
    """Cancel jobs; unknown ones are passed over.

    Raises:
        LaunchError: If Slurm refuses.
    """
    at_once = 200  # a command line has a length
    for start in range(0, len(job_ids), at_once):
        ask(["scancel", *job_ids[start : start + at_once]])


def is_reachable() -> bool:
    """Tell whether there is a Slurm here that answers."""
    if shutil.which("sinfo") is None:
        return False
    try:
        return _run(["sinfo", "--noheader"]).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def max_array_size() -> int:
    """Return the cluster's ``MaxArraySize``.

    Raises:
        LaunchError: If the controller does not answer.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]), re.MULTILINE)
    return int(found[1]) if found else DEFAULT_MAX_ARRAY_SIZE


def partitions() -> list[str]:
    """Return the names of the cluster's partitions."""
    return sorted(set(ask(["sinfo", "--noheader", "--format=%R"]).split()))


def check_acceptable(script: str) -> str:
    """Ask Slurm whether it would take a job script, without submitting it; no answer is no refusal.

    Returns a doubt, empty if there is none: a test cannot tell what no node has from what nodes have that are drained
    or down now. Slurm queues the second, so it is submitted, and refused then if it is the first.

    Raises:
        LaunchError: If not, with the option that is at fault.
    """
    try:
        done = _run(["sbatch", "--test-only"], script)
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode == 0 or is_busy(done.stderr):
        return ""
    problem = refusal(done.stderr)
    if not any(sign in done.stderr.lower() for sign in _NO_NODE):
        raise problem
    closed = _closed_nodes()
    if not closed:
        raise problem
    shown = ", ".join(closed[:_MAX_NAMES]) + (f" and {len(closed) - _MAX_NAMES} more" if closed[_MAX_NAMES:] else "")
    return f"no node that is in service has so much now; these are not: {shown}"


def _closed_nodes() -> list[str]:
    """Return the nodes that are down, drained or reserved for maintenance."""
    try:
        text = ask(["sinfo", "--noheader", "--Node", f"--states={_CLOSED}", "--format=%N"])
    except LaunchError:
        return []
    return sorted(set(text.split()))


def refusal(message: str) -> LaunchError:
    """Return the error that explains why Slurm does not take a job."""
    lines = [line.removeprefix("sbatch: error: ").removeprefix("allocation failure: ") for line in message.splitlines()]
    lines = [line for line in lines if line and not line.startswith("Batch job submission failed")] or lines
    what = f"Slurm refuses the job: {lines[0] if lines else 'without a word'}"
    text = message.lower()
    if "invalid partition" in text:
        return LaunchError(what, where="cluster.partition", hint=f"there are {', '.join(partitions())}")
    if any(sign in text for sign in _NO_NODE):
        return LaunchError(
            what,
            where="cluster.nodes, cluster.gpus_per_node, cluster.cpus_per_rank",
            hint="no node has so much; `sinfo -N -o '%N %c %m %G'` shows processors, memory and GPUs",
        )
    if "account" in text:
        return LaunchError(what, where="cluster.account", hint="`sacctmgr show user $USER withassoc` shows yours")
    if "qos" in text:
        return LaunchError(what, where="cluster.qos", hint="`sacctmgr show qos` shows what there is")
    if "time limit" in text:
        return LaunchError(
            what, where="cluster.time_limit_min", hint="a shorter limit is fine: a trial that needs more is requeued"
        )
    return LaunchError(what, where="cluster")
