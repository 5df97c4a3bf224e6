"""A trial belongs to the code it began with: other code is named, refused, set aside, or continued on record."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perfbench.errors import LaunchError, ResultsError
from perfbench.launch.changed_code import CodeNow, OnChangedCode, check_code, make_ready
from perfbench.results.folders import copy_texts, digests_of_files
from perfbench.results.reader import read_trials
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, FailureReason
from perfbench.spec.run import TrialSpec
from tests.trial_folders import measurement, result_of, trial_spec


@pytest.fixture
def idea(tmp_path: Path) -> Path:
    """A submission's folder: code, data, and a link to more of it."""
    folder = tmp_path / "idea"
    folder.mkdir()
    (folder / "submission.py").write_text("RATE = 1\n")
    (folder / "weights.bin").write_bytes(b"\0\1\2")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rule.py").write_text("A = 1\n")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    return folder


@pytest.fixture
def trial(idea: Path) -> TrialSpec:
    spec = trial_spec()
    return spec.model_copy(update={"submission": spec.submission.model_copy(update={"folder": str(idea)})})


def ready(
    trial: TrialSpec, runs: Path, on_change: OnChangedCode = OnChangedCode.REFUSE
) -> tuple[TrialFolder, list[str]]:
    """Do what a launcher does before an attempt; return the folder and what was told."""
    told: list[str] = []
    folder = TrialFolder.of(runs, trial)
    code = CodeNow()
    check_code([trial], runs, on_change, code=code)
    make_ready(trial, folder, on_change, code=code, tell=told.append)
    return folder, told


def begin(trial: TrialSpec, runs: Path, *, finished: bool) -> TrialFolder:
    folder, _ = ready(trial, runs)
    folder.append_telemetry("started", {"attempt": 1})
    folder.append(measurement(step=10, time_s=1.0, loss=1.0))
    if finished:
        folder.write_result(result_of(trial, folder.measurements()))
    return folder


def edit_text(idea: Path) -> str:
    (idea / "submission.py").write_text("RATE = 2\n")
    return "submission: submission.py (changed)"


def edit_binary(idea: Path) -> str:
    (idea / "weights.bin").write_bytes(b"\0\1\3")
    return "submission: weights.bin (changed)"


def edit_linked(idea: Path) -> str:
    (idea.parent / "elsewhere" / "rule.py").write_text("A = 2\n")
    return "submission: linked/rule.py (changed)"


def add_file(idea: Path) -> str:
    (idea / "table.csv").write_text("1,2\n")
    return "submission: table.csv (added)"


def remove_file(idea: Path) -> str:
    (idea / "weights.bin").unlink()
    return "submission: weights.bin (removed)"


EDITS = [edit_text, edit_binary, edit_linked, add_file, remove_file]


@pytest.mark.parametrize("edit", EDITS)
def test_the_result_of_other_code_is_refused_and_the_file_is_named(
    trial: TrialSpec, idea: Path, tmp_path: Path, edit: object
) -> None:
    begin(trial, tmp_path / "runs", finished=True)
    ready(trial, tmp_path / "runs")  # nothing has changed

    assert callable(edit)
    expected = edit(idea)

    with pytest.raises(ResultsError, match="finished with other code than is here now") as refused:
        ready(trial, tmp_path / "runs")
    assert f"\n  - {expected}\n" in str(refused.value)
    assert str(refused.value).endswith("hint: --fresh sets the old trial aside and starts anew")


def test_an_interrupted_trial_does_not_go_on_with_changed_code(trial: TrialSpec, idea: Path, tmp_path: Path) -> None:
    begin(trial, tmp_path / "runs", finished=False)
    edit_text(idea)

    with pytest.raises(ResultsError, match="begun with other code") as refused:
        ready(trial, tmp_path / "runs")

    assert "--continue-with-changed-code goes on (on record, never scored)" in refused.value.hint


def test_asked_to_it_goes_on_and_is_never_scored(trial: TrialSpec, idea: Path, tmp_path: Path) -> None:
    begin(trial, tmp_path / "runs", finished=False)
    edit_text(idea)

    folder, told = ready(trial, tmp_path / "runs", OnChangedCode.CONTINUE)
    again, told_again = ready(trial, tmp_path / "runs")  # the same changed code: nothing further to ask

    record = folder.code()
    assert record is not None
    assert [(change.attempt, change.files) for change in record.changes] == [
        (2, ("submission: submission.py (changed)",))
    ]
    assert record.began_with.submission["submission.py"] != record.latest.submission["submission.py"]
    assert "never scored" in told[0]
    assert told_again == []
    assert again.code() == record
    [read] = read_trials([tmp_path / "runs"]).trials
    assert not read.log().is_scorable


def test_a_finished_trial_is_never_continued(trial: TrialSpec, idea: Path, tmp_path: Path) -> None:
    begin(trial, tmp_path / "runs", finished=True)
    edit_text(idea)

    with pytest.raises(ResultsError, match="finished with other code"):
        ready(trial, tmp_path / "runs", OnChangedCode.CONTINUE)


def test_started_anew_the_old_trial_is_kept_where_no_board_reads_it(
    trial: TrialSpec, idea: Path, tmp_path: Path
) -> None:
    for number in (1, 2):
        begin(trial, tmp_path / "runs", finished=True)
        edit_text(idea)
        folder, told = ready(trial, tmp_path / "runs", OnChangedCode.START_ANEW)

        kept = folder.path.parent / ".set_aside" / f"trial_1.{number}"
        assert told == [f"the earlier trial was set aside: {kept}"]
        assert (kept / "result.json").exists()
        assert not folder.has_begun()
        assert [read.path for read in read_trials([tmp_path / "runs"]).trials] == [folder.path]
        assert [read.path for read in read_trials([kept]).trials] == [kept]


def test_a_trial_of_another_configuration_is_set_aside_too(trial: TrialSpec, tmp_path: Path) -> None:
    ready(trial, tmp_path / "runs")
    other = trial.model_copy(update={"global_batch_size": 16})
    with pytest.raises(ResultsError, match="--fresh sets it aside and starts anew"):
        ready(other, tmp_path / "runs")

    folder, told = ready(other, tmp_path / "runs", OnChangedCode.START_ANEW)

    assert "the earlier trial was set aside" in told[0]
    assert folder.trial() == other


def test_a_trial_that_runs_is_not_set_aside(trial: TrialSpec, tmp_path: Path) -> None:
    folder = begin(trial, tmp_path / "runs", finished=False)

    with folder.locked(), pytest.raises(LaunchError, match="is under way, so it is not set aside"):
        ready(trial, tmp_path / "runs", OnChangedCode.START_ANEW)

    assert folder.path.exists()


def test_what_is_queued_runs_what_was_submitted(trial: TrialSpec, idea: Path, tmp_path: Path) -> None:
    folder, _ = ready(trial, tmp_path / "runs")
    edit_text(idea)
    queued = [folder.path]

    with pytest.raises(ResultsError, match="jobs run what was submitted; `perfbench cancel`"):
        check_code([trial], tmp_path / "runs", OnChangedCode.CONTINUE, code=CodeNow(), under_way=queued)


def test_mended_code_begins_anew_where_nothing_was_measured(trial: TrialSpec, idea: Path, tmp_path: Path) -> None:
    folder, _ = ready(trial, tmp_path / "runs")
    folder.append_telemetry("started", {"attempt": 1})
    crashed = Crashed(reason=FailureReason.SUBMISSION, rank=0, error_type="E", message="m", step=0)
    measured = [measurement(step=1, time_s=1.0, loss=1.0)]
    folder.write_result(result_of(trial, measured, crashed))
    edit_text(idea)

    folder, told = ready(trial, tmp_path / "runs")

    assert "its code was changed since it crashed at its start; that attempt was set aside" in told[0]
    assert not folder.has_begun()
    record = folder.code()
    assert record is not None
    assert record.changes == ()


def test_the_workload_and_the_package_are_on_record(trial: TrialSpec, tmp_path: Path) -> None:
    folder, _ = ready(trial, tmp_path / "runs")

    record = folder.code()
    assert record is not None
    assert {"model.py", "README.md"} <= set(record.began_with.workload)
    assert {"engine/trainer/process.py", "launch/worker.py", "errors.py"} <= set(record.began_with.package)
    assert not any(path.startswith(("workloads/", "scoring/", "cli/")) for path in record.began_with.package)


def test_a_record_of_an_earlier_version_is_not_taken_for_the_same_code(trial: TrialSpec, tmp_path: Path) -> None:
    folder = begin(trial, tmp_path / "runs", finished=True)
    (folder.path / "code.json").unlink()

    with pytest.raises(ResultsError, match="the folder does not say which code it ran"):
        ready(trial, tmp_path / "runs")


def test_a_folder_is_described_whatever_is_in_it(idea: Path) -> None:
    (idea / "back").symlink_to(idea)
    (idea / "nowhere").symlink_to("missing")
    (idea / "__pycache__").mkdir()
    (idea / "__pycache__" / "submission.pyc").write_bytes(b"")
    (idea / ".submission.py.swp").write_bytes(b"")
    os.mkfifo(idea / "pipe")

    files = digests_of_files(idea)

    assert list(files) == ["back", "linked/rule.py", "nowhere", "pipe", "submission.py", "weights.bin"]
    assert files["nowhere"] == "link to missing"
    assert files["pipe"].startswith("no file")


def test_the_texts_are_kept_for_comparison(idea: Path, tmp_path: Path) -> None:
    copy_texts(idea, tmp_path / "copy")

    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert copied == {"submission.py", "linked/rule.py"}
