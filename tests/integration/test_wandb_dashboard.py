"""A board on W&B, made once and updated from then on; a page where there is no W&B."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_wandb import assert_no_secret_in, perfbench
from tests.trial_folders import write_reaching_trial
from tests.wandb_service import TEAM, serving

pytestmark = pytest.mark.slow

WORKLOADS = ("criteo", "ogbg")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two submissions of which the first is twice as fast on both workloads."""
    folder = tmp_path_factory.mktemp("runs")
    for number, submission in enumerate(("adamw", "shampoo"), start=1):
        for workload in WORKLOADS:
            write_reaching_trial(folder, time_s=10.0 * number, submission=submission, workload=workload)
    return folder


def grids(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]


def test_a_report_is_created_once_and_then_updated(runs: Path) -> None:
    with serving() as service:
        arguments = ("wandb-dashboard", str(runs), "--entity", TEAM)
        first = perfbench(*arguments, environment=service.environment())
        second = perfbench(*arguments, environment=service.environment())

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout.startswith("created 'perfbench: mini external")
    assert second.stdout.startswith("updated 'perfbench: mini external")
    ((identifier, view),) = service.views.items()
    assert f"/{TEAM}/perfbench/reports/" in first.stdout
    assert first.stdout.strip().endswith(f"--{identifier}")
    spec = json.loads(view["spec"])
    text = json.dumps(spec)
    assert "| 1    | adamw" in text, "the leaderboard"
    assert "Performance profiles" in text
    assert "Evaluation takes more than" not in text
    drawn = json.dumps(grids(spec))
    assert len(grids(spec)) == 2 + len(WORKLOADS)
    for shown in ("profile/adamw", "target/validation/loss", "submission_time_s", "time/data_wait_s", *WORKLOADS):
        assert shown in drawn
    (rows,) = service.history.values()
    profile = [(row["profile/tau"], row.get("profile/shampoo")) for row in rows]
    assert profile == [(1.0, 0.0), (1.0, 0.0), (2.0, 0.0), (2.0, 1.0), (4.0, 1.0), (4.0, 1.0)]


def test_without_a_login_the_same_is_a_page(runs: Path, tmp_path: Path) -> None:
    nowhere = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_API_KEY": ""}

    done = perfbench("wandb-dashboard", str(runs), "--out", str(tmp_path / "page"), environment=nowhere)

    assert done.returncode == 0, done.stderr
    assert "no report on W&B (tracking: no valid W&B login" in done.stdout
    page = (tmp_path / "page" / "index.html").read_text()
    for title in ("Performance profiles", "Training curves", "Time accounting", "Time to target"):
        assert title in page
    assert not (tmp_path / "page" / "figures").exists()
    assert_no_secret_in(runs)
