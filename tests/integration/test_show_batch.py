"""``perfbench show-batch``: of the untrained model, of a trial's weights, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfbench.cli.main import main
from tests.integration import small_criteo


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("show_batch")
    small_criteo.prepare_data(root / "data")
    small_criteo.run(root / "data", root / "runs", "submission=baseline")
    return small_criteo.trial_folder(root / "runs", "baseline")


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_trial_predicts_with_its_newest_weights(
    trial: Path, split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "batch.png"

    assert main(["show-batch", "criteo", "--trial", str(trial), "--split", split, "--out", str(out)]) == 0

    newest = max(path.stem for path in (trial / "checkpoints").glob("step_*"))
    told = " ".join(capsys.readouterr().out.split())
    assert f"{split}; baseline, study 0, trial 1, weights of step {int(newest.removeprefix('step_'))}" in told
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_and_none_is_an_error(
    trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (trial / "states").rglob("rank_0.pt"):
        path.write_bytes(b"damaged")

    assert main(["show-batch", "criteo", "--trial", str(trial), "--out", str(tmp_path / "a.png")]) == 2

    told = capsys.readouterr()
    assert "rank_0.pt does not match its digest" in told.out
    assert "the trial has no readable checkpoint" in told.err


@pytest.mark.slow
def test_a_trial_of_another_workload_or_with_overrides_is_refused(
    trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show-batch", "wmt", "--trial", str(trial)]) == 2
    assert "the trial trains criteo, not wmt" in capsys.readouterr().err

    assert main(["show-batch", "criteo", "seed=1", "--trial", str(trial)]) == 2
    assert "a trial has its own configuration: seed=1 cannot change it" in capsys.readouterr().err

    assert main(["show-batch", "criteo", "--trial", str(tmp_path)]) == 2
    assert "no run.json: not the folder of a trial" in capsys.readouterr().err


def test_the_untrained_model_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["workload.params.table_rows=512", "workload.params.expected_examples={}", f"data_root={tmp_path}"]
    small_criteo.prepare_data(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")

    assert main(["show-batch", "criteo", "data=planted", *small, "--out", str(tmp_path / "a.png")]) == 0
    assert "criteo, data planted, validation; model of seed 0, untrained" in " ".join(capsys.readouterr().out.split())

    assert main(["show-batch", "criteo", "data=planted", *small, "--out", str(blocked / "a.png")]) == 2
    assert "the picture cannot be written: File exists" in capsys.readouterr().err
