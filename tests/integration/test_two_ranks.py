"""Two ranks do what one does: the same data in the same order, the same metrics, the same time of evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfbench.results.store import TrialFolder
from tests.integration import small_criteo

RELATIVE_TOLERANCE = 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("submission", "trial"), [("baseline", 3), ("shampoo", 2)])
def test_metrics_of_two_ranks_equal_those_of_one(data_root: Path, tmp_path: Path, submission: str, trial: int) -> None:
    """The points have no dropout: masks are drawn per rank. Nor does it matter whose table they look up."""
    overrides = (f"submission={submission}", f"trial={trial}", "workload.step_hint=20", "evaluation.every_steps=1")
    compiled = submission == "baseline"  # once is enough
    metrics = []
    settings = [(1, "torch"), (2, "torch")] + [(2, "torchrec")] * compiled
    for num_ranks, embedding in settings:
        runs = tmp_path / f"{num_ranks}_{embedding}"
        changes = (f"cluster.nproc_per_node={num_ranks}", f"workload.params.embedding={embedding}")
        ended = small_criteo.run(data_root, runs, *overrides, *changes, compiled=compiled)
        assert ended.returncode == 0, ended.stderr
        folder = TrialFolder(runs / submission / "study_0" / "criteo" / f"trial_{trial}")
        metrics.append([m.metrics for m in folder.measurements()])

    assert len(metrics[0]) == 20
    for others in metrics[1:]:
        for one, two in zip(metrics[0], others, strict=True):
            assert two == pytest.approx(one, rel=RELATIVE_TOLERANCE)


@pytest.mark.slow
def test_ranks_agree_on_evaluations_by_wall_clock(data_root: Path, tmp_path: Path) -> None:
    """Wherever their folder is."""
    runs_root = tmp_path / "exp#1 100%"
    ended = small_criteo.run(
        data_root,
        runs_root,
        "submission=baseline",
        "cluster.nproc_per_node=2",
        "evaluation=wall_clock",
        "workload.eval_period_s=0.3",
        "workload.step_hint=400",
    )

    assert ended.returncode == 0, ended.stderr
    folder = TrialFolder(small_criteo.trial_folder(runs_root, "baseline"))
    measurements = folder.measurements()
    assert measurements[-1].step == 400
    assert len(measurements) >= 2
    result = folder.result()
    assert result is not None
    assert result.scorable
    assert result.num_recompiles_after_warmup == 0
