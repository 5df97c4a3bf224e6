"""Every mistake a person can make gets one clear error, exit code 2, before anything starts; nothing is overwritten."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.spec.run import TrialSpec
from tests.integration import small_criteo

pytestmark = pytest.mark.slow


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must be refused; return its one error."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["workload=critoe"], "workload: no workload named 'critoe'\n  hint: 'critoe': did you mean 'criteo'?"),
        (["submission=shampo"], "submission: no submission named 'shampo'\n  hint: 'shampo': did you mean 'shampoo'?"),
        (["data=flight"], "data: workload 'criteo' has no data set 'flight' at scale 'mini'"),
        (["sede=1"], "sede: unknown field\n  hint: 'sede': did you mean 'seed'?"),
        (["workload.eval_perod_s=3.0"], "workload.eval_perod_s: unknown field"),
        (["workload.eval_perod_s=3.0"], "did you mean 'eval_period_s'?"),
        (["cluster.nproc=2"], "hint: 'nproc': did you mean 'nproc_per_node'?"),
        (["seed=abc"], 'seed: input should be a valid integer, got "abc"'),
        (["seed='3'"], 'seed: input should be a valid integer, got "3"'),
        (["seed=-1"], "seed: input should be greater than or equal to 0, got -1"),
        (["seed=abc", "sede=1"], "2 problems:"),
        (["workload.targets.smoke.threshold=low"], "workload.targets.smoke.threshold: input should be a valid number"),
        (["workload.params.table_row=5"], "workload.params.table_row: unknown field"),
        (["workload.params.embedding_dim=8"], "the interaction needs the last bottom width (16) to equal"),
        (["seed"], "Error parsing override 'seed'\n  hint: write key=value"),
        (["trial=6"], "trial: there is no trial 6: a study of baseline has 5\n  hint: trial=1 to trial=5"),
        (["study=5"], "study: there is no study 5: the ruleset has 5\n  hint: study=0 to study=4"),
        (["ruleset=self_tuning"], "ruleset: submission 'baseline' does not take part in 'self_tuning' tuning"),
        (
            ["cluster.nproc_per_node=3"],
            "cluster.nproc_per_node: the training batch size 128 is not divisible by 3 ranks",
        ),
        (
            ["submission.options.first_moment=bad"],
            "submission baseline, options.first_moment: input should be 'as_run' or 'as_intended', got \"bad\"",
        ),
        (
            ["submission.options.first_momen=as_run"],
            "options.first_momen: unknown field\n  hint: 'first_momen': did you mean 'first_moment'?",
        ),
        (["submission.search_space.points=[{learning_rat: 0.1}]"], "hyperparameters.learning_rat: unknown field"),
        (
            ["submission.batch_sizes.mini.criteo=0"],
            "submission.batch_sizes.mini.criteo: input should be greater than or equal to 1, got 0",
        ),
        (
            ["submission.batch_sizes.mini.critoe=64"],
            "submission.batch_sizes.mini.critoe: no workload named 'critoe'\n  hint: 'critoe': did you mean 'criteo'?",
        ),
        (["scale=full", "scale.target=smoke"], "scale.target: workload 'criteo' has no smoke target at scale 'full'"),
        (["scale=full"], "the data is not prepared\n  hint: run `perfbench data prepare criteo --scale full"),
    ],
)
def test_an_impossible_request_is_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str], expected: str
) -> None:
    runs = tmp_path / "runs"
    data = [] if "scale=full" not in overrides else [f"data_root={tmp_path}"]

    error = refused(capsys, "run", "--dry", *overrides, f"runs_root={runs}", *data)

    assert expected in error
    assert not runs.exists()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["submission=adamg,sinv6"], "submission sinv6, files.weights.path: needs a file"),
        (["submission=sinv6,adamg"], "submission sinv6, files.weights.path: needs a file"),
        (
            ["submission=adamg,lion", "submission.batch_sizes.mini.wtm=64"],
            "submission.batch_sizes.mini.wtm: no workload named 'wtm'",
        ),
        (["submission=adamg", "submission.options.after_horizon=up"], "submission adamg, options.after_horizon: input"),
    ],
)
def test_a_sweep_checks_every_submission_before_the_first_trial(
    capsys: pytest.CaptureFixture[str], data_root: Path, tmp_path: Path, overrides: list[str], expected: str
) -> None:
    roots = (f"data_root={data_root}", f"runs_root={tmp_path / 'runs'}")

    error = refused(capsys, "sweep", *small_criteo.OVERRIDES, "ruleset=self_tuning", *overrides, *roots)

    assert expected in error
    assert not (tmp_path / "runs").exists()


def test_several_mistakes_are_reported_together(capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "run", "seed=abc", "sede=1", "trial=x")

    assert re.search(r"3 problems:\n  - seed: .*\n  - trial: .*\n  - sede: unknown field", error)


def test_an_unknown_verb_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rum"])

    assert ended.value.code == 2
    assert "'rum'" in capsys.readouterr().err


def test_a_truncated_data_file_is_named_before_anything_starts(
    capsys: pytest.CaptureFixture[str], data_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(data_root / "criteo", tmp_path / "data" / "criteo")
    shard = next((tmp_path / "data").rglob("day_7_00*.bin"))
    shard.write_bytes(shard.read_bytes()[:-1])
    roots = (f"data_root={tmp_path / 'data'}", f"runs_root={tmp_path / 'runs'}")

    error = refused(capsys, "run", *small_criteo.OVERRIDES, *roots)

    assert f"{shard}: truncated data file: 31399 bytes, the manifest says 31400" in error
    assert f"hint: delete {shard.parent} and run `perfbench data prepare criteo" in error
    assert not (tmp_path / "runs").exists()


def test_a_missing_data_file_is_named(capsys: pytest.CaptureFixture[str], data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(data_root / "criteo", tmp_path / "criteo")
    next(tmp_path.rglob("day_9_00*.bin")).unlink()

    error = refused(capsys, "run", *small_criteo.OVERRIDES, f"data_root={tmp_path}", f"runs_root={tmp_path / 'runs'}")

    assert "day_9_00.000.bin: missing data file" in error


def test_a_run_folder_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str], data_root: Path) -> None:
    error = refused(
        capsys, "run", *small_criteo.OVERRIDES, f"data_root={data_root}", "runs_root=/proc/perfbench-cannot-be-here"
    )

    assert "the run folder cannot be written" in error
    assert "hint: choose another" in error


def test_a_folder_of_another_configuration_is_left_alone(
    capsys: pytest.CaptureFixture[str], data_root: Path, tmp_path: Path
) -> None:
    roots = (f"data_root={data_root}", f"runs_root={tmp_path}")
    assert main(["run", "--dry", *small_criteo.OVERRIDES, *roots]) == 0
    planned = TrialSpec.from_json(capsys.readouterr().out)
    folder = small_criteo.trial_folder(tmp_path, "baseline")
    folder.mkdir(parents=True)
    other = planned.model_copy(update={"run_seed": 7, "global_batch_size": 64})
    (folder / "run.json").write_text(other.to_json())
    before = sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file())

    error = refused(capsys, "run", *small_criteo.OVERRIDES, *roots)

    assert "the folder holds a trial with another configuration (there -> asked):" in error
    assert "  - run_seed: 7 -> 0" in error
    assert "  - global_batch_size: 64 -> 128" in error
    assert "hint: --fresh sets it aside and starts anew; or choose another study=, trial= or runs_root=" in error
    assert sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file()) == before


def test_a_hyperparameter_that_the_submission_does_not_know_is_named(data_root: Path, tmp_path: Path) -> None:
    """Only the submission's own code knows its hyperparameters: the rank finds it before training."""
    points = "submission.search_space.points=[{learning_rat: 0.1}]"

    ended = small_criteo.run(data_root, tmp_path, "submission=baseline", points)

    assert ended.returncode == 2
    assert "learning_rat: unknown field" in ended.stderr
    assert "did you mean 'learning_rate'?" in ended.stderr
    assert not (small_criteo.trial_folder(tmp_path, "baseline") / "result.json").exists()


def test_a_crash_is_recorded_told_and_retried(data_root: Path, tmp_path: Path) -> None:
    code = tmp_path / "crashing"
    code.mkdir()
    (code / "submission.py").write_text(
        "from submissions.baseline.submission import Hyperparameters, Options, build as build_baseline\n"
        "def build(context, hyperparameters, options):\n"
        "    submission = build_baseline(context, hyperparameters, options=options)\n"
        "    step = submission.update_params\n"
        "    def update_params(batch):\n"
        "        if submission.num_updates == 25:\n"
        "            raise ValueError('the dog ate the gradient')\n"
        "        return step(batch)\n"
        "    submission.update_params = update_params\n"
        "    return submission\n"
    )

    ended = small_criteo.run(data_root, tmp_path, "submission=baseline", f"submission.folder={code}")

    folder = small_criteo.trial_folder(tmp_path, "baseline")
    result = json.loads((folder / "result.json").read_text())
    assert ended.returncode == 1
    assert "crashed on rank 0" in ended.stderr
    assert "the dog ate the gradient" in ended.stderr
    assert result["outcome"]["kind"] == "crashed"
    assert result["outcome"]["error_type"] == "ValueError"
    again = small_criteo.run(data_root, tmp_path, "submission=baseline", f"submission.folder={code}")
    assert again.returncode == 1
    assert (folder / "result.attempt_1.json").exists()
    assert json.loads((folder / "result.json").read_text())["num_attempts"] == 2


def test_help_is_immediate_and_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "import perfbench\n"
        "assert not {'torch', 'hydra', 'pydantic'} & set(sys.modules)\n"
        "from perfbench.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
        times.append(time.perf_counter() - started)

    assert min(times) < 0.5


def test_a_hyperparameter_on_the_command_line_is_read_by_the_submission_s_own_type(
    capsys: pytest.CaptureFixture[str], data_root: Path, tmp_path: Path
) -> None:
    roots = (f"data_root={data_root}", f"runs_root={tmp_path / 'runs'}")
    for verb, override, expected in (
        ("run", "hp.learning_rat=3e-4", "hyperparameters.learning_rat: unknown field\n  hint: 'learning_rat': did you"),
        ("run", "hp.learning_rate=-1", "hyperparameters.learning_rate: input should be greater than"),
        ("sweep", "hp.learning_rate=1e-3,fast", "hyperparameters.learning_rate: input should be a valid number"),
    ):
        error = refused(capsys, verb, *small_criteo.OVERRIDES, override, *roots)

        assert expected in error
    assert not (tmp_path / "runs").exists()
