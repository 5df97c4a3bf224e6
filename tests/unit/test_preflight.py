"""What is checked and prepared before a trial starts."""

from __future__ import annotations

import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from perfbench.cli.main import main
from perfbench.compose import compose_run, compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.errors import ConfigError, DataError, LaunchError, SubmissionError
from perfbench.launch import preflight
from perfbench.launch.plan import num_gpus, plan_trial


def test_data_that_two_trials_miss_at_once_is_prepared_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prepared: list[Path] = []

    def prepare(request: PrepareRequest) -> None:
        time.sleep(0.1)
        prepared.append(request.destination)
        (request.destination / "manifest.json").write_text("{}")

    preparer = SimpleNamespace(prepare=prepare, required_bytes=lambda _: 0, verify=lambda *_, **__: None)
    monkeypatch.setattr(preflight, "preparer_of", lambda _: preparer)
    workload = compose_workload("criteo", scale="mini")

    with ThreadPoolExecutor(3) as threads:
        starts = [
            threads.submit(preflight.ensure_data, workload, tmp_path, lambda *_: None, may_prepare=True)
            for _ in range(3)
        ]
        for start in starts:
            start.result()

    assert prepared == [tmp_path / "criteo" / "mini" / "flights"]


def test_a_sweep_checks_the_files_of_every_submission(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not of the first one on a workload only: the others would fail one after another, hours later."""
    monkeypatch.setattr(preflight, "ensure_data", lambda *_, **__: None)
    submissions = "submission=baseline_self_tuning,sinv6"

    assert main(["sweep", "workload=criteo", submissions, f"runs_root={tmp_path}", "cluster=slurm"]) == 2

    assert "submission sinv6" in (said := capsys.readouterr().err)
    assert "needs a file that this repository does not hold" in said


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, 8),
        ("3", 1),
        ("0,1,2", 3),
        ("", 0),
        ("-1", 0),
        ("0,-1,1", 1),
        ("0,9,1", 1),
        ("0,0", 0),
        ("GPU-a,GPU-b", 2),
        ("MIG-a,MIG-b", 1),
    ],
)
def test_ranks_are_as_many_as_the_gpus_that_they_will_see(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, expected: int
) -> None:
    """Eight ranks on the one GPU that was left visible would share it, and measure nothing."""
    driver = SimpleNamespace(nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 8)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)

    assert num_gpus() == expected


@pytest.mark.parametrize(
    ("chosen", "asked", "refused"),
    [(None, 9, "9 ranks cannot share 8 visible GPUs"), ("MIG-a,MIG-b", 2, "2 ranks cannot share 1 visible GPU (CUDA_")],
)
def test_more_ranks_than_gpus_are_refused_before_nccl_does(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, asked: int, refused: str
) -> None:
    driver = SimpleNamespace(nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 8)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)

    with pytest.raises(ConfigError) as problem:
        plan_trial(compose_run([f"cluster.nproc_per_node={asked}"]))

    assert refused in problem.value.what
    assert problem.value.where == "cluster.nproc_per_node"


@pytest.mark.parametrize(("written_bytes", "is_enough"), [(0, False), (599, False), (600, True)])
def test_what_an_interrupted_preparation_wrote_needs_no_room_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written_bytes: int, is_enough: bool
) -> None:
    (tmp_path / "part.bin").write_bytes(bytes(written_bytes))
    prepared: list[PrepareRequest] = []
    preparer = SimpleNamespace(required_bytes=lambda _: 1000, prepare=prepared.append)
    monkeypatch.setattr(preflight, "preparer_of", lambda _: preparer)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=400))
    workload = compose_workload("criteo", scale="mini")
    request = PrepareRequest(workload=workload, destination=tmp_path, source=None, progress=lambda *_: None, options={})

    if is_enough:
        preflight.prepare_data(request)
    else:
        with pytest.raises(DataError, match=r"preparing needs 0.0 GB, the disk has 0.0 GB free"):
            preflight.prepare_data(request)

    assert len(prepared) == is_enough


def test_a_kernel_that_cannot_confine_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "landlock_version", lambda: 4)
    trial = plan_trial(compose_run(["workload=mnist", "submission=adamw", "isolation=sandbox"]))

    with pytest.raises(LaunchError, match=r"needs Landlock of version 6 \(Linux 6\.12\), this kernel has version 4"):
        preflight.check_submissions([trial])


LEAVING = """
import os, time

try:
    open({secret!r}).read()
    found = "secret"
except OSError as problem:
    found = problem.strerror
if os.fork() == 0:  # without parents, in a session of its own
    os.setsid()
    if os.fork() == 0:
        while True:
            time.sleep(0.01)
            try:
                open({left!r}, "w").write(str(time.time()))
            except OSError:
                pass
    os._exit(0)
ends = time.monotonic() + (60 if found == "secret" else 0.5)  # confined it would wait for nothing
while time.monotonic() < ends and not os.path.exists({left!r}):
    time.sleep(0.01)
raise ValueError(found)
"""


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["process", "sandbox"])
def test_what_a_submission_does_when_it_is_checked_is_confined_and_ends(tmp_path: Path, isolation: str) -> None:
    """It is imported before there is a trial: it reads no data then and starts nothing that goes on."""
    folder, secret, left = tmp_path / "leaving", tmp_path / "secret", tmp_path / "left"
    folder.mkdir()
    secret.write_text("x")
    (folder / "submission.py").write_text(LEAVING.format(secret=str(secret), left=str(left)))
    (folder / "__init__.py").write_text("")
    (folder / "submission.yaml").write_text(
        "name: leaving\nversion: 1\ndescription: leaves a process\nrulesets: [external]\n"
        "search_space: {kind: points, points: [{learning_rate: 0.01}]}\n"
    )
    trial = plan_trial(compose_run(["workload=mnist", f"submission={folder}", f"isolation={isolation}"]))

    with pytest.raises(SubmissionError, match="secret" if isolation == "process" else "Permission denied"):
        preflight.check_submissions([trial])

    assert left.exists() is (isolation == "process")
    before = left.read_text() if left.exists() else ""
    time.sleep(0.3)
    assert (left.read_text() if left.exists() else "") == before
