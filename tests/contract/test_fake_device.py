"""What can be known of a GPU without one: no operation mixes devices, and no content is read on the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from perfbench.config_files import choices
from perfbench.registry import repository_root, submission_names, workload_families

ONE_PROCESS_AT_A_TIME = pytest.mark.xdist_group("fake device")
VARIANTS = sorted(set(choices("workload")) - set(workload_families()))


def looked_at(kind: str, names: list[str]) -> dict[str, Any]:
    """Look at names in a process of its own and return what was found, by name."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fake_device", kind, *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=repository_root(),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(repository_root() / "src"), str(repository_root())])},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [record["name"] for record in found] == names
    return {record["name"]: record["problem"] for record in found}


def problems(found: dict[str, Any]) -> dict[str, str]:
    return {name: problem for name, problem in found.items() if problem is not None}


@ONE_PROCESS_AT_A_TIME
def test_faults_that_a_cpu_does_not_show_are_found() -> None:
    found = looked_at("fault", ["none", "a tensor of the host", "a look at the content"])

    assert found.pop("none") is None
    assert "two devices" in found["a tensor of the host"]
    assert "_local_scalar_dense" in found["a look at the content"]


@pytest.mark.slow
@ONE_PROCESS_AT_A_TIME
def test_every_family_at_full_size_stays_on_its_device_and_looks_at_no_content() -> None:
    assert problems(looked_at("workload", workload_families())) == {}


@pytest.mark.slow
@ONE_PROCESS_AT_A_TIME
def test_every_submission_stays_on_its_device_and_looks_at_no_content() -> None:
    assert problems(looked_at("submission", submission_names())) == {}


@pytest.mark.slow
@ONE_PROCESS_AT_A_TIME
@pytest.mark.timeout(600)
def test_every_variant_at_full_size_stays_on_its_device_and_looks_at_no_content() -> None:
    assert problems(looked_at("workload", VARIANTS)) == {}


@pytest.mark.slow
@ONE_PROCESS_AT_A_TIME
@pytest.mark.timeout(600)
def test_every_family_takes_what_it_takes_for_a_cuda_device_too() -> None:
    assert problems(looked_at("forward", workload_families())) == {}
