"""Sweeps on a real Slurm: submitted, interrupted in every way there is, resumed, scored. Needs slurm-wlm and munge."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, FailureReason
from tests.integration import slurm_cluster, small_criteo
from tests.integration.slurm_cluster import TestCluster
from tests.wandb_files import offline_runs

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(400)]

STEPS = 400
SLOW = (f"workload.step_hint={STEPS}", "evaluation.every_steps=50", f"trace_steps=[1,50,100,{STEPS}]")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Iterator[TestCluster]:
    folder = tmp_path_factory.mktemp("slurm")
    started = slurm_cluster.start(folder, data_root)
    yield started
    slurm_cluster.stop(folder)


def result_path(runs_root: Path, trial: int = 1, submission: str = "baseline") -> Path:
    return runs_root / submission / "study_0" / "criteo" / f"trial_{trial}" / "result.json"


def lines(folder: Path, file: str, kind: str) -> list[dict[str, Any]]:
    path = folder / file
    return small_criteo.lines(path, kind) if path.exists() else []


def slow_submission(folder: Path, *, hang_at: int = -1) -> str:
    """Write a baseline whose steps take long until the folder has a file ``fast``; it may hang on rank 1."""
    folder.mkdir()
    (folder / "submission.py").write_text(
        "import os, time\n"
        "from submissions.baseline.submission import Hyperparameters, build as build_baseline\n"
        "def build(context, hyperparameters):\n"
        "    submission = build_baseline(context, hyperparameters)\n"
        "    step = submission.update_params\n"
        "    def update_params(batch):\n"
        f"        time.sleep(0 if os.path.exists({str(folder / 'fast')!r}) else 0.3)\n"
        f"        if submission.num_updates == {hang_at} and os.environ['RANK'] == '1':\n"
        "            time.sleep(10000)\n"
        "        return step(batch)\n"
        "    submission.update_params = update_params\n"
        "    return submission\n"
    )
    return f"submission.folder={folder}"


def one_trial() -> str:
    """Return an override that leaves one point in the search space."""
    from perfbench.compose import compose_submission

    space = compose_submission("baseline").search_space
    assert space is not None
    point = space.model_dump(mode="json")["points"][0]
    inner = ", ".join(f"{name}: {json.dumps(value)}" for name, value in point.items())
    return f"submission.search_space.points=[{{{inner}}}]"


def has_saved(folder: Path) -> bool:
    return any(int(path.name[5:]) >= 20 for path in folder.glob("checkpoints/step_*[0-9]"))


def workers(folder: Path) -> list[psutil.Process]:
    """Return the processes of a trial's ranks, by rank."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if "perfbench.launch.slurm.rank" in command and str(folder) in command and "srun" not in command[0]:
                rank = int(process.environ()["SLURM_PROCID"])
                parent = process.parent()
                if parent is None or parent.cmdline() != command:  # not what a rank has forked
                    found[rank] = process
        except (psutil.Error, KeyError):
            continue
    return [found[rank] for rank in sorted(found)]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["cluster.partition=nowhere"],
            "cluster.partition: Slurm refuses the job: invalid partition specified: nowhere",
        ),
        (["cluster.request_gpus=true", "cluster.gpus_per_node=16"], "no node has so much"),
        (["runs_root=/proc/perfbench-cannot-be-here"], "the run folder cannot be written"),
    ],
    ids=["wrong partition", "too many GPUs", "unwritable folder"],
)
def test_what_slurm_would_refuse_is_one_error_and_leaves_nothing(
    cluster: TestCluster, tmp_path: Path, overrides: list[str], expected: str
) -> None:
    refused = cluster.sweep(tmp_path / "runs", "submission=baseline", *overrides)

    assert refused.returncode == 2
    assert expected in refused.stderr
    assert refused.stderr.count("error:") == 1
    assert not list(tmp_path.rglob("run.json"))
    assert not list(tmp_path.rglob("manifest.json"))
    assert not any("baseline.criteo" in name for name in cluster.names_in_queue())


def test_a_sweep_is_split_run_scored_and_never_submitted_twice(cluster: TestCluster, tmp_path: Path) -> None:
    """Two submissions of five trials, in arrays of at most four; nobody waits for them."""
    overrides = (
        "submission=baseline,shampoo",
        "evaluation=wall_clock",
        "workload.eval_period_s=0.5",
        "workload.targets.smoke.threshold=10.0",
    )
    submitted = cluster.sweep(tmp_path, *overrides)
    assert submitted.returncode == 0, submitted.stderr
    again = cluster.sweep(tmp_path, *overrides)
    assert "nothing to submit" in again.stdout
    assert len([name for name in cluster.names_in_queue() if "criteo" in name]) <= 10
    assert len(list(tmp_path.glob(".slurm/arrays/*/manifest.json"))) == 4

    cluster.wait_until((tmp_path / ".slurm" / "aggregation" / "done").exists, "the scores are made")

    results = [TrialFolder(path.parent).result() for path in tmp_path.rglob("result.json")]
    assert [result.outcome.kind for result in results if result] == ["reached"] * 10
    board = next((tmp_path / "score").glob("*.md")).read_text()
    assert "baseline" in board
    assert "shampoo" in board
    assert list((tmp_path / "report").glob("index.html"))
    status = cluster.perfbench("status", str(tmp_path))
    assert "10 trials: 10 reached" in status.stdout
    shutil.rmtree(result_path(tmp_path, trial=3).parent)
    missing = cluster.sweep(tmp_path, *overrides)
    assert "10 trials: 1 planned, 9 reached" in missing.stdout
    assert "1 jobs with 1 elements" in missing.stdout
    cluster.wait_until(result_path(tmp_path, trial=3).exists, "the deleted trial is there again")


@pytest.fixture(scope="module")
def uninterrupted(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the trial that others interrupt, on two nodes with two ranks each: the same four ranks in any layout."""
    root = tmp_path_factory.mktemp("whole")
    overrides = (slow_submission(root / "slow"), "submission=baseline", one_trial(), *SLOW)
    (root / "slow" / "fast").touch()
    done = cluster.sweep(root / "runs", *overrides)
    assert done.returncode == 0, done.stderr
    cluster.wait_until(result_path(root / "runs").exists, "the uninterrupted trial ends")
    return result_path(root / "runs").parent


def interrupt(cluster: TestCluster, how: str, job_id: str) -> None:
    match how:
        case "requeue":
            cluster.slurm("scontrol", "requeue", job_id)
        case "SIGTERM":
            cluster.slurm("scancel", "--signal=TERM", job_id)
        case "time limit":
            cluster.slurm("scancel", "--batch", "--signal=USR2", job_id)


def test_however_it_is_interrupted_a_trial_ends_as_if_it_had_not_been(
    cluster: TestCluster, tmp_path: Path, uninterrupted: Path
) -> None:
    """Requeued, told to end, out of time, cancelled and resumed: all at once, to save time."""
    ways = ("requeue", "SIGTERM", "time limit", "cancel")
    slow = slow_submission(tmp_path / "slow")
    roots = {way: tmp_path / way.replace(" ", "_") for way in ways}
    for root in roots.values():
        done = cluster.sweep(root, "submission=baseline", slow, one_trial(), *SLOW, "tracking=wandb_offline")
        assert done.returncode == 0, done.stderr
    for way, root in roots.items():
        folder = result_path(root).parent
        cluster.wait_until(lambda folder=folder: has_saved(folder), f"a checkpoint before {way}")  # type: ignore[misc]
        (job_id,) = (
            line.split()[0]
            for line in cluster.slurm("squeue", "--noheader", "--format=%i %j").splitlines()
            if line.split()[1].endswith(next(root.glob(".slurm/arrays/*")).name)
        )
        if way == "cancel":
            assert job_id in cluster.perfbench("cancel", str(root)).stdout
        else:
            interrupt(cluster, way, job_id)
    (tmp_path / "slow" / "fast").touch()
    root = roots["cancel"]
    name = next(root.glob(".slurm/arrays/*")).name
    cluster.wait_until(lambda: not any(name in one for one in cluster.names_in_queue()), "the cancelled job is gone")
    assert "1 interrupted" in cluster.perfbench("status", str(root)).stdout
    resumed = cluster.perfbench("resume", str(root))
    assert resumed.returncode == 0, resumed.stderr
    for way, root in roots.items():
        cluster.wait_until(result_path(root).exists, f"the trial ends in spite of {way}")
        assert_same_course(result_path(root).parent, uninterrupted)
    for root in roots.values():
        assert_one_offline_run(cluster, result_path(root).parent)


def assert_one_offline_run(cluster: TestCluster, folder: Path) -> None:
    """All attempts of a requeued trial are one W&B run, which holds what counts; the mirror ends after the result."""
    cluster.wait_until(lambda: has_offline_exit(folder), "the mirror has ended the W&B run")
    (run,) = offline_runs(folder)
    wanted = [(m.step, m.submission_time_s) for m in TrialFolder(folder).measurements()]
    shown = [(row["step"], row["submission_time_s"]) for row in run.rows if "validation/loss" in row]
    assert shown == wanted
    assert run.run_id == TrialFolder(folder).tracking_id()
    assert run.summary["outcome"] == "budget_spent"


def has_offline_exit(folder: Path) -> bool:
    return any(run.summary.get("outcome") for run in offline_runs(folder))


def assert_same_course(folder: Path, expected: Path) -> None:
    """Measurements and states equal bit for bit, in at least two attempts on one clock."""
    counted, wanted = TrialFolder(folder).measurements(), TrialFolder(expected).measurements()
    assert [(m.step, m.metrics) for m in counted] == [(m.step, m.metrics) for m in wanted]
    assert len(wanted) == STEPS // 50

    def traces(of: Path) -> dict[int, Any]:
        return {line["at_step"]: (line["parameters"], line["state"]) for line in lines(of, "telemetry.jsonl", "trace")}

    assert traces(folder) == traces(expected)
    resumes = lines(folder, "measurements.jsonl", "resumed")
    assert resumes
    assert resumes[0]["from_step"] > 0
    times_s = [m.submission_time_s for m in counted]
    assert times_s == sorted(times_s)
    assert resumes[0]["submission_time_s"] > 0


def crash_of(runs_root: Path) -> Crashed:
    result = TrialFolder(result_path(runs_root).parent).result()
    assert result is not None
    assert isinstance(result.outcome, Crashed)
    return result.outcome


def test_a_killed_rank_and_a_hanging_one_end_their_trials_with_the_reason(cluster: TestCluster, tmp_path: Path) -> None:
    killed, hung = tmp_path / "killed", tmp_path / "hung"
    slow = slow_submission(tmp_path / "slow")
    hangs = slow_submission(tmp_path / "hangs", hang_at=30)
    cluster.sweep(killed, "submission=baseline", slow, one_trial(), *SLOW)
    cluster.sweep(hung, "submission=baseline", hangs, one_trial(), *SLOW, "cluster.hang_timeout_s=20.0")
    folder = result_path(killed).parent
    cluster.wait_until(lambda: has_saved(folder), "a checkpoint before the kill")
    os.kill(workers(folder)[1].pid, signal.SIGKILL)
    killed_s = time.monotonic()
    cluster.wait_until(result_path(killed).exists, "the trial of the killed rank ends")

    assert time.monotonic() - killed_s < 60
    (tmp_path / "slow" / "fast").touch()
    outcome = crash_of(killed)
    assert (outcome.reason, outcome.rank) == (FailureReason.NODE, 1)
    assert outcome.message == "ended by the system: Killed"
    assert workers(folder) == []
    assert "node, rank 1: ended by the system: Killed" in cluster.perfbench("status", str(killed)).stdout
    assert "nothing to submit" in cluster.sweep(killed, "submission=baseline", slow, one_trial(), *SLOW).stdout
    again = cluster.sweep(killed, "submission=baseline", slow, one_trial(), *SLOW, retry_failed=True)
    assert again.returncode == 0, again.stderr

    cluster.wait_until(result_path(hung).exists, "the hanging trial is ended")
    assert crash_of(hung).reason is FailureReason.HANG
    stacks = sorted(result_path(hung).parent.glob("logs/stacks_attempt_1_rank_*.txt"))
    assert [path.name[-5] for path in stacks] == ["0", "1"]
    assert "update_params" in stacks[1].read_text()
    states = cluster.slurm("squeue", "--noheader", "--states=FAILED", "--format=%j").split()
    assert next(hung.glob(".slurm/arrays/*")).name in " ".join(states)
    cluster.wait_until(lambda: result_path(killed).exists() and not has_crashed(killed), "the retried trial ends")


def has_crashed(runs_root: Path) -> bool:
    result = TrialFolder(result_path(runs_root).parent).result()
    return result is not None and isinstance(result.outcome, Crashed)


def test_a_trial_on_two_nodes_survives_the_loss_of_one(cluster: TestCluster, tmp_path: Path) -> None:
    """The daemon of the second node is killed while its ranks live on: what a cut cable looks like."""
    slow = slow_submission(tmp_path / "slow")
    runs_root = tmp_path / "runs"
    overrides = ("submission=baseline", slow, one_trial(), *SLOW, "cluster.nodes=2")
    submitted = cluster.sweep(runs_root, *overrides)
    assert submitted.returncode == 0, submitted.stderr
    folder = result_path(runs_root).parent
    cluster.wait_until(lambda: has_saved(folder), "a checkpoint before the node is lost")
    assert len(workers(folder)) == 4

    os.kill(int((cluster.folder / "slurmd.n2.pid").read_text()), signal.SIGKILL)
    cluster.wait_until(lambda: "down" in cluster.slurm("sinfo", "--noheader", "--format=%T"), "the node counts as down")
    (tmp_path / "slow" / "fast").touch()
    cluster.slurm(str(slurm_cluster.SCRIPT), "slurmd", str(cluster.folder), "n2")
    cluster.wait_until(result_path(runs_root).exists, "the trial ends in spite of the lost node")

    result = TrialFolder(folder).result()
    assert result is not None
    assert result.outcome.kind == "budget_spent"
    assert result.num_attempts == 2
    assert lines(folder, "measurements.jsonl", "resumed")[0]["from_step"] > 0
