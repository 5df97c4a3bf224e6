"""The job that looks after what the arrays left, however they ended: it puts back what is lost, and scores the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def aggregate(runs_root: str) -> None:
    """Put lost trials back; write scores to ``score/``, the report to ``report/``, explored trials to ``explored.csv``.

    Partial results are scored with a warning. Where trials were put back, another job of this kind waits for them.

    Raises:
        SystemExit: With the first exit code that is not 0, so that the job is shown as failed.
    """
    codes = [
        subprocess.run([sys.executable, "-m", "perfbench", *verb, runs_root], check=False).returncode
        for verb in verbs(Path(runs_root))
    ]
    if failed := next((code for code in codes if code != 0), None):
        raise SystemExit(failed)
    (Path(runs_root) / ".slurm" / "aggregation" / "done").touch()


def verbs(runs_root: Path) -> list[tuple[str, ...]]:
    """Return what is to be done: scores are made of studies, and explored trials are never scored but listed."""
    chosen: list[tuple[str, ...]] = [("resume", "--lost")]
    if any(runs_root.glob("*/study_*")):
        chosen += [("score",), ("report",)]
    if any(runs_root.glob("*/explored")):
        chosen.append(("table", "--csv", str(runs_root / "explored.csv")))
    return chosen
