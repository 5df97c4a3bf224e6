"""A researcher's first hour, as a script: a new algorithm, two rates, which won and why, and nothing that misleads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import small_criteo

pytestmark = pytest.mark.slow


class Newcomer:
    """Types commands; every trial is of the same small workload, evaluated by the wall clock."""

    def __init__(self, data_root: Path, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.idea = folder / "first_hour"
        self._data_root = data_root

    def trial(self, *arguments: str, verb: str = "run") -> subprocess.CompletedProcess[str]:
        """Run a trial, or several, of the idea."""
        chosen = ("evaluation=wall_clock", "workload.eval_period_s=0.2", f"submission={self.idea}")
        return small_criteo.run(self._data_root, self.runs, *chosen, *arguments, verb=verb, compiled=False)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run any other command."""
        return subprocess.run(
            [sys.executable, "-m", "perfbench", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=small_criteo.environment(),
        )


def rates_of(table: str) -> list[float]:
    """Return the learning rates of a table, in the order of its rows."""
    return [float(rate) for rate in re.findall(r"│ learning_rate=(\S+)", table)]


def test_the_first_hour(data_root: Path, tmp_path: Path) -> None:
    me = Newcomer(data_root, tmp_path)

    # A new algorithm, and two rates.
    written = me.command("new-submission", "first_hour", "--folder", str(tmp_path))
    assert written.returncode == 0
    assert "make sweep WORKLOAD=mnist" in written.stdout
    swept = me.trial("hp.learning_rate=1e-6,3e-3", verb="sweep")
    assert swept.returncode == 0, swept.stderr
    assert f"next: .venv/bin/perfbench table {me.runs}" in swept.stdout

    # Which won?
    table = me.command("table", str(me.runs))
    assert rates_of(table.stdout) == [0.003, 1e-6]
    assert "budget spent" in table.stdout

    # Why: side by side.
    explored = me.runs / "first_hour" / "explored" / "criteo"
    folders = [str(explored / f"learning_rate={rate}") for rate in ("1e-06", "0.003")]
    compared = me.command("compare", *folders)
    assert compared.returncode == 0, compared.stderr
    assert "│ learning_rate   │ 1e-06 │ 0.003 │" in compared.stdout
    assert "code of A and B: the same" in compared.stdout
    numbers = json.loads(me.command("compare", *folders, "--json").stdout)
    slow, fast = (one["metric_at_equal_step"] for one in numbers["trials"])
    assert fast < slow

    # A trial of the study, then another rule: the old result is not shown for it.
    assert me.trial().returncode == 0
    code = me.idea / "submission.py"
    code.write_text(code.read_text().replace("torch.optim.AdamW(", "torch.optim.NAdam("))
    refused = me.trial()
    assert refused.returncode == 2
    assert "finished with other code than is here now:\n  - submission: submission.py (changed)" in refused.stderr
    assert "budget spent" not in refused.stdout
    anew = me.trial("--fresh")
    assert anew.returncode == 0, anew.stderr
    assert "the earlier trial was set aside" in anew.stdout
    old = next((me.runs / "first_hour" / "study_0" / "criteo" / ".set_aside").iterdir())
    new = me.runs / "first_hour" / "study_0" / "criteo" / "trial_1"
    lines = me.command("compare", str(old), str(new)).stdout
    assert re.search(
        r"^  -.*torch.optim.AdamW\($",
        lines.replace("context.model.parameters(), weight_decay=point.weight_decay)", ""),
        re.MULTILINE,
    )
    assert "+    optimizer = torch.optim.NAdam(" in lines

    # Numbers that are none end a trial.
    lost = me.trial("hp.learning_rate=1e30")
    assert lost.returncode == 0, lost.stderr
    assert "diverged" in lost.stdout

    # A board says what it has, and what is unfinished.
    unfinished = me.runs / "first_hour" / "study_0" / "criteo" / "trial_2"
    unfinished.mkdir()
    planned = json.loads((new / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps(planned | {"trial": 2}))
    (unfinished / "measurements.jsonl").write_text((new / "measurements.jsonl").read_text())
    board = me.command("score", str(me.runs), "--no-pictures")
    assert "unfinished" in board.stdout
    assert "explored" not in board.stdout
    assert "1e-06" not in board.stdout
