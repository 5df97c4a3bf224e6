"""Why ``srun`` says that a rank ended."""

from __future__ import annotations

import re

from perfbench.launch.ending import KILLED, failure_seen
from perfbench.results.store import Failure
from perfbench.spec.result import FailureReason

_TASK = re.compile(r"task\S* (\d+)\S*: (Killed|Out Of Memory|Terminated|Segmentation fault|[A-Z][\w ]+)")
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


def failure_of_step(stderr: str, exit_code: int, attempt: int) -> Failure:
    """Return the failure that ``srun``'s words describe.

    >>> failure_of_step("srun: error: n1: task 1: Killed", 137, 1).message
    'killed (SIGKILL): out of memory or killed by hand'
    >>> failure_of_step("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0", 137, 1).reason.value
    'oom'
    """
    found = _TASK.search(stderr)
    what = found[2] if found else f"srun ended with exit code {exit_code}"
    reason, message = FailureReason.NODE, KILLED if what == "Killed" else f"ended by the system: {what}"
    if _OUT_OF_MEMORY.search(stderr):
        reason, message = FailureReason.OUT_OF_MEMORY, "ended by the system: out of memory"
    return failure_seen(attempt, reason, message, rank=int(found[1]) if found else 0, error_type="Killed")
