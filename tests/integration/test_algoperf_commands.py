"""Commands that know folders of AlgoPerf's form: a native skeleton, the board, the exported tree, a Slurm snapshot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.compose import compose_run, compose_submission
from perfbench.errors import SubmissionError
from perfbench.launch.plan import plan_trial
from perfbench.launch.slurm.snapshot import outside_submission, take_snapshot
from perfbench.registry import submission_builder
from perfbench.results.reader import read_trials
from perfbench.scoring.board import leaderboard
from perfbench.scoring.tables import score_table
from perfbench.spec.submission import PointSpace
from tests.algoperf_forms import copied, spec_of
from tests.scoring_logs import benchmark, reaching
from tests.trial_folders import measurement, trial_spec, write_reaching_trial, write_trial


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer for the process that asks for batch sizes."""
    monkeypatch.setattr("perfbench.algoperf.facts.batch_sizes_of", lambda path, workloads: {"mnist": 16, "ogbg": 512})


@pytest.mark.parametrize("name", ["nadamw", "two_passes", "lion_like"])
def test_a_native_skeleton_has_their_points_and_batch_sizes(name: str, tmp_path: Path) -> None:
    theirs = copied(name, tmp_path)
    command = ["new-submission", f"native_{name}", "--folder", str(tmp_path), "--from-algoperf", str(theirs)]

    assert main(command) == 0

    written = compose_submission(str(tmp_path / f"native_{name}"))
    original = compose_submission(str(theirs))
    assert written.form == "native"
    assert (written.rulesets, written.search_space) == (original.rulesets, original.search_space)
    assert written.batch_sizes == original.batch_sizes
    point = dict(written.search_space.points[0]) if isinstance(written.search_space, PointSpace) else None
    if point is not None or written.search_space is None:
        assert callable(submission_builder(written, point))


def test_a_skeleton_of_a_folder_that_is_none_of_theirs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-submission", "first", "--folder", str(tmp_path)]) == 0
    command = ["new-submission", "second", "--folder", str(tmp_path), "--from-algoperf", str(tmp_path / "first")]

    assert main(command) == 2

    assert "it is a submission of this interface" in capsys.readouterr().err
    assert not (tmp_path / "second").exists()


def test_the_form_is_on_the_trial_s_record_and_on_the_board(tmp_path: Path) -> None:
    spec = spec_of("nadamw", tmp_path)
    changes = {"submission": spec.model_dump(mode="json"), "hyperparameters": {"learning_rate": 0.1}}
    write_trial(tmp_path / "runs", trial_spec(changes), [measurement(step=10, time_s=20.0, loss=0.4)])

    [trial] = read_trials([tmp_path / "runs"]).trials
    log = dataclasses.replace(trial.log(), key=reaching(1.0, submission="nadamw").key)
    board = leaderboard([log, reaching(30.0, submission="b")], benchmark("w", num_studies=1, num_trials=1))

    note = "nadamw: AlgoPerf's interface, adapted (dropout as_run)"
    assert trial.spec.submission.form == "algoperf"
    assert note in board.notes
    assert note in score_table(board).caption
    assert not any(one.startswith("b:") for one in board.notes)


def test_dropout_is_part_of_a_trial_s_identity(tmp_path: Path) -> None:
    folder = copied("nadamw", tmp_path)
    as_run = plan_trial(compose_run(["workload=mnist", f"submission={folder}"]))
    file_only = plan_trial(
        compose_run(["workload=mnist", f"submission={folder}", "submission.options.dropout=file_only"])
    )

    assert as_run.identity() != file_only.identity()


def test_a_hyperparameter_that_its_space_does_not_have_is_refused_by_name(tmp_path: Path) -> None:
    spec = spec_of("nadamw", tmp_path)

    with pytest.raises(
        SubmissionError, match=r"no hyperparameter 'learning_rat' in its search space\n.*'learning_rate'"
    ):
        submission_builder(spec, {"learning_rat": 0.1})


def test_results_are_exported_in_their_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reaching_trial(tmp_path / "runs", time_s=20.0)

    assert main(["export", "--algoperf", str(tmp_path / "runs"), "--out", str(tmp_path / "logs")]) == 0

    [log] = (tmp_path / "logs").rglob("eval_measurements.csv")
    assert log.parent.relative_to(tmp_path / "logs").parts == ("adamw", "study_0", "criteo1tb_pytorch", "trial_1")


def test_a_snapshot_holds_the_folder_and_what_it_runs_from_there(tmp_path: Path) -> None:
    spec = spec_of("four_spellings", tmp_path / "home")
    snapshot = take_snapshot(tmp_path / "runs", submission_folder=spec.folder)
    there = outside_submission(snapshot, spec.folder)
    moved = spec.model_copy(update={"folder": there})

    build = submission_builder(moved, {"learning_rate": 0.1, "momentum": 0.9, "last_step": 3})

    assert callable(build)
    assert Path(str(there)) == snapshot / "outside" / "four_spellings"
    assert (Path(str(there)) / "optimizers" / "parts" / "buffers.py").is_file()
