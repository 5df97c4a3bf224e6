"""Why ``srun`` says that a rank ended."""

from __future__ import annotations

import re

from perfbench.launch.ending import KILLED, failure_seen
from perfbench.results.store import Failure
from perfbench.spec.result import FailureReason

_TASK = re.compile(r"task\S* (\d+)\S*: (Killed|Out Of Memory|Terminated|Segmentation fault|[A-Z][\w ]+)")
_ERROR = re.compile(r"^(srun|slurmstepd\S*): (error|fatal): ")
_NOT_CREATED = re.compile(r"step creation .*retrying")
_OUT_OF_MEMORY = re.compile(r"out.of.memory|oom.kill", re.IGNORECASE)


def was_killed_first(stderr: str) -> bool:
    r"""Tell whether the first rank that ended was killed: what other ranks then report is only the echo.

    >>> was_killed_first("srun: error: n1: task 1: Killed\nsrun: error: n1: task 0: Exited with exit code 1")
    True
    >>> was_killed_first("srun: error: n1: task 0: Exited with exit code 1\nsrun: error: n1: task 1: Killed")
    False
    """
    found = _TASK.search(stderr)
    return found is not None and not found[2].startswith(("Exited", "Terminated"))


def waits_for_its_nodes(stderr: str) -> bool:
    r"""Tell whether the last that ``srun`` said is that it cannot start ranks on nodes that the job has.

    >>> waits_for_its_nodes("srun: Job 56 step creation still disabled, retrying (Requested nodes are busy)\n")
    True
    >>> waits_for_its_nodes("srun: Job 56 step creation temporarily disabled, retrying\nsrun: Step created for 56.1\n")
    False
    """
    lines = stderr.strip().splitlines()
    return bool(lines) and _NOT_CREATED.search(lines[-1]) is not None


def words_of(stderr: str) -> str:
    r"""Return the line of ``srun``'s words that tells most: its first error.

    >>> words_of("srun: job 7 queued\nsrun: fatal: SLURM_MEM_PER_CPU and --mem are mutually exclusive.\n")
    'SLURM_MEM_PER_CPU and --mem are mutually exclusive.'
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    found = next((line for line in lines if _ERROR.search(line)), lines[-1] if lines else "")
    return _ERROR.sub("", found)


def failure_of_step(stderr: str, exit_code: int, attempt: int) -> Failure:
    """Return the failure that ``srun``'s words describe; a step that ends well without a result has failed too.

    >>> failure_of_step("srun: error: n1: task 1: Killed", 137, 1).message
    'killed (SIGKILL): out of memory or killed by hand'
    >>> failure_of_step("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0", 137, 1).reason.value
    'oom'
    >>> failure_of_step("slurmstepd: error: Could not open stdout file", 0, 1).message
    'srun ended with exit code 0 and no result: Could not open stdout file'
    """
    found = _TASK.search(stderr)
    if _OUT_OF_MEMORY.search(stderr):
        reason, message = FailureReason.OUT_OF_MEMORY, "ended by the system: out of memory"
    elif found is None:
        reason, message = FailureReason.NODE, f"srun ended with exit code {exit_code} and no result"
        message = f"{message}: {words}" if (words := words_of(stderr)) else message
    else:
        reason = FailureReason.NODE
        message = KILLED if found[2] == "Killed" else f"ended by the system: {found[2]}"
    return failure_seen(attempt, reason, message, rank=int(found[1]) if found else 0, error_type="Killed")
