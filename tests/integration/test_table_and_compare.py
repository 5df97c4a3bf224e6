"""Trials as rows, and side by side: what a person asks after changing a rate or a rule."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from perfbench.cli.main import main
from perfbench.results.reader import read_trials
from perfbench.results.store import TrialFolder
from perfbench.scoring.curves import curve_of, seconds_to_target
from perfbench.spec.code import CodeFiles, CodeRecord
from tests.trial_folders import measurement, trial_spec, write_reaching_trial, write_trial


def tried(runs: Path, x: float, *, losses: list[float], rule: str = "one", finished: bool = True) -> TrialFolder:
    """Write an explored trial that measured some losses, two seconds and ten steps apart."""
    spec = trial_spec({"explored": f"x={x:g}", "hyperparameters": {"x": x, "y": 0.123456789}})
    records = [measurement(step=10 * n, time_s=2.0 * n, loss=loss) for n, loss in enumerate(losses, start=1)]
    folder = write_trial(runs, spec, records, is_finished=finished)
    folder.sources.mkdir()
    (folder.sources / "submission.py").write_text(f"RATE = 1\nRULE = '{rule}'\n")
    files = CodeFiles(submission={"submission.py": rule}, workload={}, package={})
    folder.write_code(CodeRecord(began_with=files))
    folder.append_telemetry("resources", {"host_memory_bytes": x * 2**30, "at_step": 1})
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    tried(tmp_path, 1.0, losses=[2.0, 1.5, 1.0])
    tried(tmp_path, 3.0, losses=[1.0, 0.8, 0.5], rule="another")
    tried(tmp_path, 2.0, losses=[0.7, 0.6], finished=False)
    return tmp_path


def test_the_best_stands_first_with_what_was_set(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    assert main(["table", str(runs)]) == 0

    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [(row[3], row[4], row[5]) for row in cells] == [
        ("x=3", "3", "reached"),
        ("x=2", "2", "unfinished"),
        ("x=1", "1", "budget spent"),
    ]
    assert cells[0][8:11] == ["0.50000", "6.0 s", "5.0"]
    assert cells[0][11].endswith("explored/criteo/x=3")  # not cut: it can be pasted


def test_only_what_differs_is_a_column_unless_asked_for(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    main(["table", str(runs)])
    assert "┃ y" not in capsys.readouterr().out
    main(["table", str(runs), "--all-columns"])
    assert "0.1235" in capsys.readouterr().out


def test_a_narrow_terminal_gets_a_list_of_which_nothing_is_cut(
    capsys: pytest.CaptureFixture[str], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    assert main(["table", str(runs)]) == 0

    out = capsys.readouterr().out
    assert "│" not in out
    assert f"          folder  {runs}/adamw/explored/criteo/x=3" in out
    assert "               x  3" in out


def test_programs_get_all_columns(capsys: pytest.CaptureFixture[str], runs: Path, tmp_path: Path) -> None:
    assert main(["table", str(runs), "--csv", "-", "--parquet", str(tmp_path / "t.parquet")]) == 0

    table = pl.read_csv(capsys.readouterr().out.encode())
    assert table["hyperparameters/x"].to_list() == [3.0, 2.0, 1.0]
    assert table["hyperparameters/y"].to_list() == [0.123456789] * 3
    assert table["time_to_target_s"].to_list() == [6.0, None, None]
    assert pl.read_parquet(tmp_path / "t.parquet")["outcome"].to_list() == ["reached", "unfinished", "budget_spent"]


def test_two_trials_side_by_side(capsys: pytest.CaptureFixture[str], runs: Path, tmp_path: Path) -> None:
    folders = [str(runs / "adamw" / "explored" / "criteo" / name) for name in ("x=1", "x=3")]
    picture = tmp_path / "curves.svg"

    assert main(["compare", *folders, "--picture", str(picture)]) == 0

    out = capsys.readouterr().out
    assert "configuration: the same" in out
    assert "environment: the same" in out
    assert "submission: submission.py (changed)" in out
    assert "-RULE = 'one'" in out
    assert "+RULE = 'another'" in out
    assert "validation/loss against seconds on the clock (line: target 0.5)" in out
    assert "validation/loss against steps" in out
    assert picture.read_text().count("validation/loss") == 2


def test_programs_get_the_comparison_as_numbers(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    folders = [str(runs / "adamw" / "explored" / "criteo" / name) for name in ("x=1", "x=3", "x=2")]

    assert main(["compare", *folders, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["differences"]["hyperparameters"] == {"x": [1.0, 3.0, 2.0]}
    assert (found["equal_time_s"], found["equal_step"]) == (4.0, 20)
    assert [one["metric_at_equal_time"] for one in found["trials"]] == [1.5, 0.8, 0.6]
    assert [one["time_to_target_s"] for one in found["trials"]] == [None, 6.0, None]
    assert [one["memory_bytes"] for one in found["trials"]] == [2**30, 3 * 2**30, 2 * 2**30]
    assert found["differences"]["code"]["B"] == ["submission: submission.py (changed)"]
    assert found["differences"]["code"]["C"] == []
    assert found["warnings"] == ["C is unfinished"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x=1"], "TRIAL: 1 trial(s) given"),
        (["x=1", "x=9"], "there is no such file or folder"),
        (["x=1", "."], "holds 3 trials:"),
        (["x=1", "x=3", "--picture", "curves.gif"], "no kind of picture: '.gif'"),
    ],
)
def test_what_cannot_be_compared_is_explained(
    capsys: pytest.CaptureFixture[str], runs: Path, arguments: list[str], message: str
) -> None:
    folder = runs / "adamw" / "explored" / "criteo"
    paths = [str(folder / name) if name[0] in "x." else name for name in arguments]

    assert main(["compare", *paths]) == 2

    assert message in capsys.readouterr().err


def test_the_line_through_the_last_evaluations_says_when_the_target_comes(tmp_path: Path) -> None:
    tried(tmp_path, 1.0, losses=[2.0, 1.5, 1.0])
    tried(tmp_path, 2.0, losses=[1.0, 1.5, 2.0])
    tried(tmp_path, 3.0, losses=[1.0, 0.75, 0.5])
    approaching, leaving, there = (curve_of("", trial) for trial in read_trials([tmp_path]).trials)

    assert seconds_to_target(approaching) == pytest.approx(2.0)
    assert seconds_to_target(leaving) is None
    assert seconds_to_target(there) is None


def test_exported_logs_are_those_of_studies(capsys: pytest.CaptureFixture[str], runs: Path, tmp_path: Path) -> None:
    write_reaching_trial(runs, time_s=10.0)

    assert main(["export", str(runs), "--out", str(tmp_path / "logs")]) == 0

    assert "1 logs of 1 trials written" in capsys.readouterr().out
