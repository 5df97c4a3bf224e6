"""A whole trial of a folder of AlgoPerf's form: killed on two ranks, it ends as if it had never been."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.algoperf_forms import copied
from tests.integration import small_criteo
from tests.integration.test_resume import TRACE, kill_when_step_is_saved, metrics, start, traces


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_ranks"), [("lawa_like", 2)])
def test_killed_it_ends_as_if_it_had_never_been(data_root: Path, tmp_path: Path, name: str, num_ranks: int) -> None:
    overrides = (f"submission={copied(name, tmp_path)}", f"cluster.nproc_per_node={num_ranks}", TRACE)
    folder = small_criteo.trial_folder(tmp_path / "killed", name)

    whole = small_criteo.run(data_root, tmp_path / "whole", *overrides, compiled=False)
    process = start(data_root, tmp_path / "killed", *overrides, compiled=False)
    kill_when_step_is_saved(process, folder, 20, extra_s=0.01)
    resumed = small_criteo.run(data_root, tmp_path / "killed", *overrides, compiled=False)

    assert (whole.returncode, resumed.returncode) == (0, 0), whole.stderr + resumed.stderr
    expected = small_criteo.trial_folder(tmp_path / "whole", name)
    assert len(traces(expected)) == 10
    assert traces(folder) == traces(expected)
    assert metrics(folder) == metrics(expected)
    assert [line["attempt"] for line in small_criteo.lines(folder / "measurements.jsonl", "resumed")] == [2]
