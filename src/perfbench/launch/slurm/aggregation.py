"""The job that looks after what the arrays left, however they ended: it puts back what is lost, and scores the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_VERBS = (("resume", "--lost"), ("score",), ("report",))


def aggregate(runs_root: str) -> None:
    """Put lost trials back; write the score tables to ``<runs_root>/score`` and the report to ``<runs_root>/report``.

    Partial results are scored with a warning. Where trials were put back, another job of this kind waits for them.

    Raises:
        SystemExit: With the first exit code that is not 0, so that the job is shown as failed.
    """
    codes = [
        subprocess.run([sys.executable, "-m", "perfbench", *verb, runs_root], check=False).returncode for verb in _VERBS
    ]
    if failed := next((code for code in codes if code != 0), None):
        raise SystemExit(failed)
    (Path(runs_root) / ".slurm" / "aggregation" / "done").touch()
