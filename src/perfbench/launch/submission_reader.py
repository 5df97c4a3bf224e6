"""Imports submissions and reads their points, in a process of its own: see :func:`.preflight.check_submissions`.

Standard input has a JSON object on each line (``submission``, ``point``). The answer is a file: an empty object, or
``what``, ``where`` and ``hint`` of the first error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from perfbench.errors import PerfbenchError
from perfbench.registry import submission_builder
from perfbench.results.files import write_text_atomically
from perfbench.spec.submission import SubmissionSpec


def main() -> None:
    """Answer."""
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
    main()
