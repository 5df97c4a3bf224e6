"""Trials of the language model: one graph, two ranks as one, killed and continued, and rules for every parameter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfbench.results.store import TrialFolder
from perfbench.workloads.finewebedu_lm import prepare
from perfbench.workloads.finewebedu_lm.workload import build
from tests.integration.one_graph import ONE_FOR_TRAINING_ONE_FOR_EVALUATION, graphs_of_training_and_evaluating
from tests.integration.test_resume import kill_when_step_is_saved, metrics, traces
from tests.small_text import request, small_spec, write_source

VARIANTS = ("finewebedu_lm", "finewebedu_lm_gelu_layernorm")
"""The conformance suite compiles all."""
SMALL = {
    "row_length": 16, "width": 16, "num_heads": 2, "num_layers": 1, "feed_forward_width": 16,
    "eval_train_rows": 19, "validation_rows": 37, "test_rows": 5, "loss_chunk_tokens": 24,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_and_evaluation_are_two_graphs_that_never_recompile(variant: str, tmp_path: Path) -> None:
    sha256 = write_source(tmp_path / "source")
    spec = small_spec(sha256, variant=variant)
    prepare.prepare(request(spec, tmp_path / "source", tmp_path / "out"))

    graphs = graphs_of_training_and_evaluating(
        build(spec, tmp_path / "out"), train_batch_size=64, eval_batch_size=8, num_steps=20
    )

    assert graphs == ONE_FOR_TRAINING_ONE_FOR_EVALUATION


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def command(data_root: Path, runs_root: Path, *overrides: str) -> list[str]:
    """Return the command of a small trial; the first one prepares the data."""
    small = [f"workload.params.{name}={value}" for name, value in SMALL.items()]
    base = ["workload=finewebedu_lm", "workload.step_hint=24", "workload.eval_batch_size=8", "evaluation=every_steps"]
    roots = [f"data_root={data_root}", f"runs_root={runs_root}", "workload.targets.smoke.threshold=1"]
    every = ["evaluation.every_steps=6", "scale.checkpoint_period_s=0.02", "submission=baseline"]
    return [sys.executable, "-m", "perfbench", "run", *base, *small, *roots, *every, *overrides]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}


def run(data_root: Path, runs_root: Path, *overrides: str) -> TrialFolder:
    ended = subprocess.run(
        command(data_root, runs_root, *overrides), env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return folder_of(runs_root)


def folder_of(runs_root: Path) -> TrialFolder:
    return TrialFolder(runs_root / "baseline" / "study_0" / "finewebedu_lm" / "trial_1")


@pytest.mark.slow
def test_two_ranks_are_as_one(data_root: Path, tmp_path: Path) -> None:
    one, two = (run(data_root, tmp_path / n, f"cluster.nproc_per_node={n}").measurements() for n in ("1", "2"))

    assert [m.step for m in one] == [m.step for m in two] == [6, 12, 18, 24]
    for first, second in zip(one, two, strict=True):
        assert second.metrics == pytest.approx(first.metrics, rel=1e-5)
    assert one[-1].metrics["validation/perplexity"] < one[0].metrics["validation/perplexity"]


@pytest.mark.slow
def test_killed_and_continued_a_trial_ends_as_if_it_had_never_been(data_root: Path, tmp_path: Path) -> None:
    traced = "trace_steps=[1,6,12,18,24]"
    whole = run(data_root, tmp_path / "whole", traced)
    killed = folder_of(tmp_path / "killed")

    process = subprocess.Popen(
        command(data_root, tmp_path / "killed", traced),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    kill_when_step_is_saved(process, killed.path, 8, extra_s=0)
    run(data_root, tmp_path / "killed", traced)

    assert len(traces(whole.path)) == 5
    assert traces(killed.path) == traces(whole.path)
    assert metrics(killed.path) == metrics(whole.path)
