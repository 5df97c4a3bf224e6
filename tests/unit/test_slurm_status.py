"""What `status` makes of folders that are not whole."""

from __future__ import annotations

from pathlib import Path

from perfbench.compose import compose_sweep
from perfbench.launch.states import TrialState, statuses
from perfbench.launch.sweep import plan_sweep
from perfbench.results.store import TrialFolder
from tests.unit.test_slurm_plan import SPENT, result_of


def test_a_damaged_result_hides_no_other_trial(tmp_path: Path) -> None:
    trials = plan_sweep(compose_sweep(["cluster=slurm"]))[:2]
    folders = [TrialFolder.of(tmp_path, trial) for trial in trials]
    for trial, folder in zip(trials, folders, strict=True):
        folder.claim(trial)
        folder.write_result(result_of(trial, SPENT))
    (folders[0].path / "result.json").write_text('{"outcome":')

    damaged, whole = statuses(tmp_path, {})

    assert damaged.state is TrialState.DAMAGED
    assert str(folders[0].path / "result.json") in damaged.reason
    assert whole.state is TrialState.BUDGET_SPENT
