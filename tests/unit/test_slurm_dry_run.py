"""A dry run of a sweep: it writes nothing, and says everything that submitting would say. No Slurm needed."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from perfbench.cli.arrays import SubmitOptions, submit_or_show
from perfbench.cli.main import main
from perfbench.compose import compose_sweep
from perfbench.launch.sweep import plan_sweep
from perfbench.spec.run import NoTracking, RunSpec, SlurmCluster


def cluster_of(requests: list[RunSpec]) -> SlurmCluster:
    cluster = requests[0].cluster
    assert isinstance(cluster, SlurmCluster)
    return cluster


def test_nothing_is_written_by_a_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    requests = compose_sweep(["cluster=slurm"])
    console = Console(record=True, width=160)

    options = SubmitOptions(is_dry=True, retry_failed=False, tracking=NoTracking())
    code = submit_or_show(plan_sweep(requests), cluster_of(requests), tmp_path / "runs", console, options)

    assert code == 0
    assert "#SBATCH --array=0-4%5" in console.export_text()
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_everything_that_submitting_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    overrides = ["cluster=slurm", "cluster.time_limit_min=1", "cluster.site=nowhere", "scale=full"]

    code = main(["sweep", *overrides, f"data_root={tmp_path}", f"runs_root='{tmp_path}/%j'", "--dry-run"])

    shown = capsys.readouterr().out
    assert code == 2
    for problem in (
        "the data is not prepared",
        "cluster.time_limit_min: 1 minute leave no time to train",
        "cluster.site: no set-up script of a site named 'nowhere'",
        "runs_root: '%j' in the path of the run folder means something else to Slurm",
    ):
        assert problem in shown
    assert shown.count("would be refused: ") == 4
    assert "#SBATCH --array=0-4%5" in shown
    assert list(tmp_path.iterdir()) == []


def test_what_uses_no_gpu_is_not_counted_as_gpu_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    requests = compose_sweep(["cluster=slurm_cpu"])
    console = Console(record=True, width=160, file=io.StringIO())
    options = SubmitOptions(is_dry=True, retry_failed=False, tracking=NoTracking())

    submit_or_show(plan_sweep(requests)[:1], cluster_of(requests), tmp_path / "runs", console, options)

    shown = console.export_text()
    assert "1 job with 1 element, 0.8 rank-hours at most" in shown
    assert "GPU-hours" not in shown
    assert re.search(r"[1-9]\d* bytes|[1-9][\d.]* [kM]B", shown), "small sizes are not 0.00 GB"
