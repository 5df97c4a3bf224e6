"""The workload contract, over every workload found on disk, on its mini data.

A new workload is tested the day its folder and YAML exist; nothing here names one. The data is prepared into ``data/``
of this checkout, as ``make run`` does, and found there the next time.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from perfbench.api.contracts.workload import check_model, check_workload
from perfbench.api.workload import Shard, Workload
from perfbench.compose import compose_workload
from perfbench.config_files import choices
from perfbench.data.preparation import data_folder
from perfbench.errors import PerfbenchError
from perfbench.launch.preflight import ensure_data
from perfbench.registry import build_workload, held_out_patterns, repository_root, workload_families
from perfbench.spec.workload import ScaleName, Split

NAMES = choices("workload")
SPECS = {name: compose_workload(name, scale=ScaleName.MINI.value) for name in NAMES}


def one_worker_per_family(*, is_variant: bool) -> list[object]:
    """Return the workloads as parameters; a data set is prepared by one process."""
    return [
        pytest.param(
            name, marks=[pytest.mark.xdist_group(f"data of {spec.data_family or spec.family}"), pytest.mark.slow]
        )
        for name, spec in SPECS.items()
        if spec.is_variant() is is_variant
    ]


def on_mini_data(name: str) -> Workload:
    workload = compose_workload(name, scale=ScaleName.MINI.value)
    data_root = repository_root() / "data"
    ensure_data(workload, data_root, lambda *_: None, may_prepare=True)
    return build_workload(workload, data_root)


def test_workloads_are_found() -> None:
    assert len(NAMES) >= 4
    assert set(workload_families()) <= set(NAMES)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", one_worker_per_family(is_variant=False))
def test_a_workload_keeps_the_contract(name: str) -> None:
    findings = check_workload(on_mini_data(name))

    assert len(findings) == 14
    assert not [f"{finding.name}: {finding.detail}" for finding in findings if not finding.passed]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", one_worker_per_family(is_variant=True))
def test_a_variant_keeps_what_depends_on_its_model(name: str) -> None:
    findings = check_model(on_mini_data(name), backend="aot_eager")

    assert len(findings) == 6
    assert not [f"{finding.name}: {finding.detail}" for finding in findings if not finding.passed]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", one_worker_per_family(is_variant=False))
def test_a_workload_trains_on_files_that_tell_nothing_of_its_evaluation(name: str, tmp_path: Path) -> None:
    """As a confined trainer does: it is given no file that holds examples of the other splits."""
    on_mini_data(name)
    spec = SPECS[name]
    prepared, given = data_folder(repository_root() / "data", spec), data_folder(tmp_path, spec)
    for path in filter(Path.is_file, prepared.rglob("*")):
        relative = path.relative_to(prepared)
        if not any(relative.match(pattern) for pattern in held_out_patterns(spec.family)):
            (given / relative).parent.mkdir(parents=True, exist_ok=True)
            (given / relative).symlink_to(path)
    workload = build_workload(spec, tmp_path)
    size = spec.reference_batch_size

    with contextlib.closing(workload.train_batches(global_batch_size=size, seed=0, shard=Shard())) as stream:
        assert next(stream)
    for split in (Split.VALIDATION, Split.TEST):
        with pytest.raises((OSError, PerfbenchError)):
            list(workload.eval_batches(split, global_batch_size=spec.eval_batch_size, seed=0, shard=Shard()))
