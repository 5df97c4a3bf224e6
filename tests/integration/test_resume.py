"""A run that is killed at any moment continues as if nothing had happened, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration import small_criteo

TRACE = "trace_steps=[1,10,20,30,34,35,36,40,50,60]"
"""One epoch has 35 batches."""


def traces(folder: Path) -> dict[int, tuple[str, ...]]:
    """Return the digests by step; a step that was done again must have been the same again."""
    found: dict[int, tuple[str, ...]] = {}
    for line in small_criteo.lines(folder / "telemetry.jsonl", "trace"):
        digests = tuple(line[name] for name in ("parameters", "state", "loss", "example_ids"))
        assert found.setdefault(line["at_step"], digests) == digests, f"step {line['at_step']} was done differently"
    return found


def metrics(folder: Path) -> dict[int, dict[str, float]]:
    return {line["step"]: line["metrics"] for line in small_criteo.lines(folder / "measurements.jsonl", "measurement")}


def kill_when_step_is_saved(process: subprocess.Popen[bytes], folder: Path, step: int, extra_s: float) -> None:
    """Kill the whole process group, with no chance to clean up, some time after a checkpoint of ``step``."""
    deadline = time.monotonic() + 200
    while not any(int(path.stem[5:]) >= step for path in folder.glob("checkpoints/step_*.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.005)
    time.sleep(extra_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def start(data_root: Path, runs_root: Path, *overrides: str, compiled: bool = True) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        small_criteo.command(data_root, runs_root, *overrides),
        env=small_criteo.environment(compiled=compiled),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("submission", "num_ranks"), [("baseline", 1), ("shampoo", 2)], ids=["baseline on 1 rank", "shampoo on 2 ranks"]
)
def test_killed_twice_a_run_ends_as_if_it_had_never_been(
    data_root: Path, tmp_path: Path, submission: str, num_ranks: int
) -> None:
    overrides = (f"submission={submission}", f"cluster.nproc_per_node={num_ranks}", TRACE)
    compiled = num_ranks == 1  # once is enough: it takes most of the time
    whole = small_criteo.run(data_root, tmp_path / "whole", *overrides, compiled=compiled)
    assert whole.returncode == 0, whole.stderr
    folder = small_criteo.trial_folder(tmp_path / "killed", submission)
    generator = random.Random(submission)

    for step in (10, 40):
        process = start(data_root, tmp_path / "killed", *overrides, compiled=compiled)
        kill_when_step_is_saved(process, folder, step, extra_s=generator.uniform(0, 0.03))
        assert not (folder / "result.json").exists()
    resumed = small_criteo.run(data_root, tmp_path / "killed", *overrides, compiled=compiled)

    assert resumed.returncode == 0, resumed.stderr
    expected = small_criteo.trial_folder(tmp_path / "whole", submission)
    assert traces(folder) == traces(expected)
    assert len(traces(folder)) == 10
    assert metrics(folder) == metrics(expected)
    resumes = small_criteo.lines(folder / "measurements.jsonl", "resumed")
    assert [line["attempt"] for line in resumes] == [2, 3]
    assert all(line["from_step"] > 0 for line in resumes)
    assert_clock_is_continuous(folder, resumes)


def assert_clock_is_continuous(folder: Path, resumes: list[dict[str, Any]]) -> None:
    """Submission time goes on from the checkpoint: it never falls along the steps that count."""
    from perfbench.results.store import TrialFolder

    times = [measurement.submission_time_s for measurement in TrialFolder(folder).measurements()]
    assert times == sorted(times)
    assert all(record["submission_time_s"] <= times[-1] for record in resumes)


@pytest.mark.slow
def test_a_run_asked_to_stop_saves_and_continues(data_root: Path, tmp_path: Path) -> None:
    folder = small_criteo.trial_folder(tmp_path, "baseline")
    process = start(data_root, tmp_path, "submission=baseline", "workload.step_hint=100000")
    deadline = time.monotonic() + 200
    while not any(folder.glob("checkpoints/step_*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=60) == 1
    assert not (folder / "result.json").exists()
    assert not list(folder.glob("failure_rank_*.json"))
