"""Imports submissions and reads their points, in a process of its own: see :func:`.preflight.check_submissions`.

Standard input has the sandbox to be in on the first line (or ``null``), a JSON object on each other (``submission``,
``point``). The answer is a file: an empty object, or ``what``, ``where`` and ``hint`` of the first error. Whatever a
submission starts when it is imported ends with the answer.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from perfbench.engine.referee.device_time import DeviceTime
from perfbench.engine.referee.rest import TrainerTree, adopt_orphans
from perfbench.engine.trainer.confinement import confine
from perfbench.engine.wire.lifeline import end_at_once, end_with_parent
from perfbench.engine.wire.messages import Sandbox
from perfbench.errors import PerfbenchError
from perfbench.registry import submission_builder
from perfbench.results.files import write_text_atomically
from perfbench.spec.submission import SubmissionSpec


def main() -> int:
    """Answer, and return the exit code of the process that did."""
    adopt_orphans()
    watching = os.getpid()
    reading = os.fork()
    if not reading:
        end_with_parent(watching)
        os.setsid()  # by it the processes of a submission are known
        _read()
        end_at_once(0)
    _, status = os.waitpid(reading, 0)
    TrainerTree(DeviceTime(None)).kill()
    return abs(os.waitstatus_to_exitcode(status))


def _read() -> None:
    sandbox = sys.stdin.readline().strip()
    if sandbox != "null":
        confine(Sandbox.from_json(sandbox))
    found: dict[str, str] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            submission_builder(SubmissionSpec.from_mapping(asked["submission"]), asked["point"])
        except PerfbenchError as problem:
            found = {"what": problem.what, "where": problem.where, "hint": problem.hint}
            break
    write_text_atomically(Path(sys.argv[1]), json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
