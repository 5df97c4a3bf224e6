"""The commands that show results say when these are of other code."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.launch.changed_code import CodeNow, OnChangedCode, make_ready
from perfbench.results.store import TrialFolder
from perfbench.spec.run import TrialSpec
from tests.integration import small_criteo
from tests.trial_folders import measurement, result_of

pytestmark = pytest.mark.slow


@pytest.fixture
def idea(tmp_path: Path) -> Path:
    name = f"{tmp_path.name}_idea"  # in one process, a name is one folder's
    assert main(["new-submission", name, "--folder", str(tmp_path)]) == 0
    return tmp_path / name


def begin(
    data_root: Path, idea: Path, capsys: pytest.CaptureFixture[str], *, finished: bool
) -> tuple[TrialFolder, list[str]]:
    """Write a trial as ``run`` does, without its training; return its folder and the command's arguments."""
    runs = idea.parent / "runs"
    arguments = [*small_criteo.OVERRIDES, f"submission={idea}", f"data_root={data_root}", f"runs_root={runs}"]
    capsys.readouterr()
    assert main(["run", "--dry-run", *arguments]) == 0
    trial = TrialSpec.from_json(capsys.readouterr().out)
    folder = TrialFolder.of(runs, trial)
    make_ready(trial, folder, OnChangedCode.REFUSE, code=CodeNow(), tell=print)
    folder.append_telemetry("started", {"attempt": 1})
    folder.append(measurement(step=10, time_s=1.0, loss=1.0))
    if finished:
        folder.write_result(result_of(trial, folder.measurements()))
    return folder, arguments


@pytest.mark.parametrize("verb", [("run",), ("run", "--dry-run"), ("sweep", "trial=1")])
def test_an_edited_submission_does_not_show_its_old_result(
    capsys: pytest.CaptureFixture[str], data_root: Path, idea: Path, verb: tuple[str, ...]
) -> None:
    folder, arguments = begin(data_root, idea, capsys, finished=True)
    assert main(["run", *arguments]) == 0  # the same code: its result
    assert "target not reached" in capsys.readouterr().out

    (idea / "submission.py").write_text((idea / "submission.py").read_text() + "\n# another rule\n")

    assert main([*verb, *arguments]) == 2
    shown = capsys.readouterr()
    assert "target not reached" not in shown.out
    assert f"{folder.path}: this trial was finished with other code than is here now:" in shown.err
    assert "  - submission: submission.py (changed)" in shown.err


def test_an_interrupted_trial_is_not_continued_with_other_code(
    capsys: pytest.CaptureFixture[str], data_root: Path, idea: Path
) -> None:
    _, arguments = begin(data_root, idea, capsys, finished=False)
    (idea / "submission.py").write_text((idea / "submission.py").read_text() + "\n# another rule\n")

    assert main(["run", *arguments]) == 2

    assert "--continue-with-changed-code goes on (on record, never scored)" in capsys.readouterr().err
