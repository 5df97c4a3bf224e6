"""The job that scores what the arrays left, however they ended; partial results are scored with a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def aggregate(runs_root: str) -> None:
    """Write the score tables to ``<runs_root>/score`` and the report to ``<runs_root>/report``.

    Raises:
        SystemExit: With the first exit code that is not 0, so that the job is shown as failed.
    """
    codes = [
        subprocess.run([sys.executable, "-m", "perfbench", verb, runs_root], check=False).returncode
        for verb in ("score", "report")
    ]
    if failed := next((code for code in codes if code != 0), None):
        raise SystemExit(failed)
    (Path(runs_root) / ".slurm" / "aggregation" / "done").touch()
