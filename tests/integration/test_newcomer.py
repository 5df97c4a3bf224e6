"""A researcher's first hour, as a script: a new algorithm, two rates, which won and why, and nothing that misleads."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.spec.seeds import trial_seed
from tests.integration import small_criteo

pytestmark = pytest.mark.slow
NAME = "first_hour"


class Newcomer:
    """Types commands; every trial is of the same small workload, evaluated by the wall clock."""

    def __init__(self, data_root: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.runs = folder / "runs"
        self.idea = folder / NAME
        self.study = self.runs / NAME / "study_0" / "criteo"
        self._data_root = data_root

    def trial(self, *arguments: str, verb: str = "run", compiled: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a trial, or several, of the idea; one that is not compiled is quick, and never scored."""
        chosen = ("evaluation=wall_clock", "workload.eval_period_s=0.2", f"submission={self.idea}")
        return small_criteo.run(self._data_root, self.runs, *chosen, *arguments, verb=verb, compiled=compiled)

    def command(self, *arguments: str) -> str:
        """Run any other command, which must succeed, and return what it prints."""
        code, out, err = self._ended(arguments)
        assert code == 0, err
        return out

    def refused(self, *arguments: str) -> str:
        """Run a command that must be refused, and return what it says."""
        code, _, err = self._ended(arguments)
        assert code == 2
        return err

    def _ended(self, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = main(arguments)
        ended = self._capsys.readouterr()
        return code, ended.out, ended.err


@pytest.mark.timeout(900)
def test_the_first_hour(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    me = Newcomer(data_root, tmp_path, capsys)
    assert "make sweep WORKLOAD=mnist" in me.command("new-submission", NAME, "--folder", str(tmp_path))

    two_rates_and_which_won(me)
    another_rule_is_not_shown_the_old_result(me)
    numbers_that_are_none_end_a_trial(me)
    a_board_says_what_is_unfinished(me)


def two_rates_and_which_won(me: Newcomer) -> None:
    swept = me.trial("hp.learning_rate=1e-6,3e-3", verb="sweep")
    assert swept.returncode == 0, swept.stderr
    assert f"next: .venv/bin/perfbench table {me.runs}" in swept.stdout

    table = me.command("table", str(me.runs))
    assert re.findall(r"│ learning_rate=(\S+)", table) == ["0.003", "1e-06"]
    assert table.count("budget spent") == 2

    folders = [str(me.runs / NAME / "explored" / "criteo" / f"learning_rate={rate}") for rate in ("1e-06", "0.003")]
    compared = me.command("compare", *folders)
    assert re.search(r"│ learning_rate +│ 1e-06 │ 0.003 │", compared)
    assert "code of A and B: the same" in compared
    numbers = json.loads(me.command("compare", *folders, "--json"))
    slow, fast = (one["metric_at_equal_step"] for one in numbers["trials"])
    assert fast < slow


def another_rule_is_not_shown_the_old_result(me: Newcomer) -> None:
    assert me.trial().returncode == 0
    code = me.idea / "submission.py"
    code.write_text(code.read_text().replace("torch.optim.AdamW(", "torch.optim.NAdam("))

    refused = me.trial()

    assert refused.returncode == 2
    assert "finished with other code than is here now:\n  - submission: submission.py (changed)" in refused.stderr
    assert "budget spent" not in refused.stdout
    anew = me.trial("--fresh", compiled=True)
    assert anew.returncode == 0, anew.stderr
    assert "the earlier trial was set aside" in anew.stdout
    lines = me.command("compare", str(me.study / ".set_aside" / "trial_1.1"), str(me.study / "trial_1"))
    assert "-    optimizer = torch.optim.AdamW(" in lines
    assert "+    optimizer = torch.optim.NAdam(" in lines


def numbers_that_are_none_end_a_trial(me: Newcomer) -> None:
    lost = me.trial("hp.learning_rate=1e30")

    assert lost.returncode == 0, lost.stderr
    assert "diverged" in lost.stdout


def a_board_says_what_is_unfinished(me: Newcomer) -> None:
    """A second trial of the study was stopped: neither it nor what was explored is taken for a missed target."""
    unfinished = me.study / "trial_2"
    unfinished.mkdir()
    spec = json.loads((me.study / "trial_1" / "run.json").read_text())
    seed = trial_seed(spec["run_seed"], study=0, trial=2)
    (unfinished / "run.json").write_text(json.dumps(spec | {"trial": 2, "trial_seed": seed}))
    measured = (me.study / "trial_1" / "measurements.jsonl").read_text().splitlines()
    early = json.loads(measured[0]) | {"step": 1}
    (unfinished / "measurements.jsonl").write_text(json.dumps(early) + "\n")

    refused = me.refused("score", str(me.runs), "--no-pictures")
    assert "not finished and left out: study 0 (trial 2 unfinished)" in refused
    board = me.command("score", str(me.runs), "--no-pictures", "--provisional")

    assert "(provisional)" in board
    assert "1 trial not finished and counted as measured so far" in board.replace("\n", " ")
    assert "learning_rate" not in board
