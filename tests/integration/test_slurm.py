"""Sweeps on a real Slurm: submitted, interrupted in every way there is, resumed, scored. Needs slurm-wlm and munge."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, FailureReason, Outcome
from tests.integration import failing_submission, slurm_cluster
from tests.integration.slurm_cluster import HOSTILE, TestCluster
from tests.integration.slurm_trials import (
    SLOW,
    assert_same_course,
    has_saved,
    jobs_of,
    lines,
    lost_s,
    result_path,
    slow_submission,
    trials,
    workers,
)
from tests.wandb_files import assert_one_offline_run, has_ended

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Iterator[TestCluster]:
    folder = tmp_path_factory.mktemp("slurm")
    hosts = Path("/etc/hosts").read_text()
    started = slurm_cluster.start(folder, data_root)
    yield started
    slurm_cluster.stop(folder)
    assert Path("/etc/hosts").read_text() == hosts, "the machine is as it was"


@pytest.fixture(scope="module")
def limited(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial that trains until its job's time limit comes, while other tests run.

    Slurm looks at time limits every 30 s and announces them up to so much earlier: two minutes are the least with
    which a busy machine gets to train at all.
    """
    root = tmp_path_factory.mktemp("limited")
    limit = ("cluster.time_limit_min=2", "cluster.signal_lead_s=10")
    code = slow_submission(root / "slow_limited", pause_s=0.6)
    done = cluster.sweep(root / "runs", "submission=baseline", code, trials(1), *SLOW, *limit)
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["cluster.partition=nowhere"],
            "cluster.partition: Slurm refuses the job: invalid partition specified: nowhere",
        ),
        (["cluster.request_gpus=true", "cluster.gpus_per_node=16"], "no node has so much"),
        (["runs_root=/proc/perfbench-cannot-be-here"], "the run folder cannot be written"),
        (["cluster.time_limit_min=1"], "cluster.time_limit_min: 1 minute leave no time to train"),
        (["runs_root='{}/100%done_%j'"], "runs_root: '%j' in the path of the run folder means something else"),
    ],
    ids=["wrong partition", "too many GPUs", "unwritable folder", "no time to train", "pattern in a path"],
)
def test_what_slurm_would_refuse_is_one_error_and_leaves_nothing(
    cluster: TestCluster, tmp_path: Path, overrides: list[str], expected: str
) -> None:
    refused = cluster.sweep(tmp_path / "runs", "submission=baseline", *(one.format(tmp_path) for one in overrides))

    assert refused.returncode == 2
    assert expected in refused.stderr
    assert refused.stderr.count("error:") == 1
    assert not list(tmp_path.rglob("run.json"))
    assert not list(tmp_path.rglob("manifest.json"))
    assert not list(tmp_path.glob("100%*"))
    assert not any("baseline.criteo" in name for name in cluster.names_in_queue())


def test_what_waits_for_nodes_is_submitted_with_a_warning(cluster: TestCluster, tmp_path: Path) -> None:
    """Slurm's own test cannot tell it from what no node has; a plain sbatch queues it."""
    sweep = ("submission=baseline", trials(1))
    cluster.slurm("scontrol", "update", "NodeName=n1,n2", "State=DRAIN", "Reason=maintenance")
    try:
        planned = cluster.perfbench(*cluster.sweep_arguments(tmp_path, *sweep, "--dry-run"))
        submitted = cluster.sweep(tmp_path, *sweep)
    finally:
        cluster.perfbench("cancel", str(tmp_path))
        cluster.slurm("scontrol", "update", "NodeName=n1,n2", "State=RESUME")

    for done in (planned, submitted):
        assert done.returncode == 0, done.stderr
        assert "no node that is in service has so much now; these are not: n1, n2" in done.stdout
    assert "submitted: " in submitted.stdout


@pytest.mark.usefixtures("limited")
def test_a_sweep_is_split_run_scored_and_never_submitted_twice(
    cluster: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two submissions of three trials, in arrays of at most two; nobody waits for them, and no environment disturbs."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    overrides = (
        "submission=baseline,shampoo",
        "evaluation=wall_clock",
        "workload.eval_period_s=0.5",
        "workload.targets.smoke.threshold=10.0",
        "cluster.memory_gb_per_node=2",
        *("ruleset.num_trials=3", "cluster.max_array_size=2", "cluster.array_parallelism=1", "cluster.gpus_per_node=1"),
    )
    submitted = cluster.perfbench_process(*cluster.sweep_arguments(tmp_path, *overrides, compiled=True))
    assert submitted.returncode == 0, submitted.stderr
    again = cluster.sweep(tmp_path, *overrides, compiled=True)
    assert "nothing to submit" in again.stdout
    assert len(list(tmp_path.glob(".slurm/arrays/*/manifest.json"))) == 4
    assert jobs_of(cluster, tmp_path) == ["main 23:00 1", "main 23:00 1", "main 23:00 2", "main 23:00 2"]

    cluster.wait_until((tmp_path / ".slurm" / "aggregation" / "done").exists, "the scores are made")

    results = [TrialFolder(path.parent).result() for path in tmp_path.rglob("result.json")]
    assert [result.outcome.kind for result in results if result] == ["reached"] * 6
    board = next((tmp_path / "score").glob("*.md")).read_text()
    assert "baseline" in board
    assert "shampoo" in board
    assert list((tmp_path / "report").glob("index.html"))
    status = cluster.perfbench("status", str(tmp_path))
    assert "6 trials: 6 reached" in status.stdout
    shutil.rmtree(result_path(tmp_path, trial=3).parent)
    missing = cluster.sweep(tmp_path, *overrides, compiled=True)
    assert "6 trials: 1 planned, 5 reached" in missing.stdout
    assert "1 job with 1 element" in missing.stdout
    cluster.wait_until(result_path(tmp_path, trial=3).exists, "the deleted trial is there again")


def job_of(cluster: TestCluster, root: Path) -> str:
    """Return the job of the last trial of a run folder."""
    (name,) = (path.name for path in root.glob(".slurm/arrays/*"))
    rows = [row.split() for row in cluster.slurm("squeue", "--noheader", "--array", "--format=%i %j").splitlines()]
    return max(job_id for job_id, title in rows if title.endswith(name))


def test_however_it_is_interrupted_a_trial_ends_as_if_it_had_not_been(
    cluster: TestCluster, tmp_path: Path, limited: Path
) -> None:
    """One trial has met its real time limit and is then cancelled and resumed; meanwhile another one, the last of an
    array whose first has ended, is requeued, told to end, and told while it cannot save. A second array is left in
    peace.
    """
    disturbed, whole = tmp_path / "disturbed", tmp_path / "whole"
    slow = [slow_submission(tmp_path / name, only_trial=2) for name in ("slow_disturbed", "never_slow")]
    (tmp_path / "never_slow.fast").touch()
    for root, code in zip((disturbed, whole), slow, strict=True):
        done = cluster.sweep(
            root, "submission=baseline", code, trials(2), *SLOW, "cluster.signal_lead_s=10", "tracking=wandb_offline"
        )
        assert done.returncode == 0, done.stderr

    folder = result_path(disturbed, trial=2).parent
    cluster.wait_until(lambda: has_saved(folder), "a checkpoint before the requeue")
    cluster.wait_until(result_path(disturbed).exists, "the first trial of the array ends")
    job_id = job_of(cluster, disturbed)
    cluster.slurm("scontrol", "requeue", job_id)
    cluster.wait_until(lambda: has_saved(folder, attempt=2), "a checkpoint before SIGTERM")
    cluster.slurm("scancel", "--signal=TERM", job_id)
    cluster.wait_until(lambda: has_saved(folder, attempt=3), "a checkpoint before it is held")
    hold_and_resume(cluster, disturbed, job_id)
    cluster.wait_until(lambda: has_saved(folder, attempt=4), "a checkpoint before the ranks are stuck")
    (tmp_path / "slow_disturbed.stuck").touch()
    cluster.slurm("scancel", "--batch", "--signal=USR2", job_id)  # as before a time limit
    cluster.wait_until(lambda: not workers(folder), "ranks that do not save are ended")
    (tmp_path / "slow_disturbed.stuck").unlink()
    (tmp_path / "slow_disturbed.fast").touch()

    cancel_and_resume(cluster, limited)
    ended = [result_path(whole, trial=2), result_path(disturbed, trial=2), result_path(limited / "runs")]
    for result in (result_path(whole), *ended):
        cluster.wait_until(result.exists, f"the trial of {result} ends")
    assert_same_course(folder, result_path(whole, trial=2).parent, least_attempts=5)
    assert_same_course(result_path(limited / "runs").parent, result_path(whole).parent, least_attempts=3)
    assert len(lines(result_path(disturbed).parent, "telemetry.jsonl", "started")) == 1
    roots = (whole, disturbed)
    cluster.wait_until(lambda: not any(is_queued(cluster, root) for root in roots), "jobs and their mirrors have ended")
    cluster.perfbench("sync", "--offline", *map(str, roots))  # a job does not wait for a mirror that has no processor
    for kept in (result_path(whole).parent, folder):
        assert has_ended(kept)
        assert_one_offline_run(kept)
    assert lost_s(folder) > 3  # the stuck step
    assert lines(result_path(limited / "runs").parent, "measurements.jsonl", "resumed")[0]["lost_s"] < 0.5


def hold_and_resume(cluster: TestCluster, root: Path, job_id: str) -> None:
    """Have Slurm put a job back and hold it, as it does when a node is lost at launch; release it."""
    cluster.slurm("scontrol", "requeuehold", job_id)
    cluster.wait_until(lambda: "held (" in cluster.perfbench("status", str(root)).stdout, "the job is held")
    assert "would release held jobs: " in cluster.perfbench("resume", "--dry-run", str(root)).stdout
    assert "released held jobs: " in cluster.perfbench("resume", str(root)).stdout


def cancel_and_resume(cluster: TestCluster, root: Path) -> None:
    """Wait until the trial goes on after its time limit; cancel its job, then submit it again."""
    runs = root / "runs"
    cluster.wait_until(lambda: has_saved(result_path(runs).parent, attempt=2), "the trial goes on after its limit")
    assert job_of(cluster, runs) in cluster.perfbench("cancel", str(runs)).stdout
    (root / "slow_limited.fast").touch()
    cluster.wait_until(lambda: not is_queued(cluster, runs), "the cancelled job is gone")
    assert "1 interrupted" in cluster.perfbench("status", str(runs)).stdout
    resumed = cluster.perfbench("resume", str(runs))
    assert resumed.returncode == 0, resumed.stderr


def is_queued(cluster: TestCluster, root: Path) -> bool:
    (name,) = (path.name for path in root.glob(".slurm/arrays/*"))
    return any(name in one for one in cluster.names_in_queue())


def outcome_of(runs_root: Path, trial: int = 1) -> Outcome:
    result = TrialFolder(result_path(runs_root, trial).parent).result()
    assert result is not None
    return result.outcome


def outcome_message(runs_root: Path) -> str:
    outcome = outcome_of(runs_root)
    assert isinstance(outcome, Crashed)
    return outcome.message


def has_crashed(runs_root: Path) -> bool:
    return isinstance(outcome_of(runs_root), Crashed)


WAYS = {
    "mistake": "submission, rank 0: a mistake in the submission",
    "memory": "oom, rank 0:",
    "nan": "nan: the training loss at step",
    "no": "",
}
"""What ``status`` says of a submission that goes wrong."""


def test_whatever_ends_a_trial_is_named_and_other_trials_go_on(cluster: TestCluster, tmp_path: Path) -> None:
    """In the result, in ``status``, and as a failed job; several run folders at once, to save time."""
    killed, hung, without_data, unlaunched = (
        tmp_path / name for name in ("killed", "hung", "without_data", "unlaunched")
    )
    ways = tmp_path / "100%done #1"
    slow = ("submission=baseline", slow_submission(tmp_path / "slow_killed"), trials(1), *SLOW)
    assert cluster.sweep(killed, *slow).returncode == 0
    hangs = failing_submission.write(tmp_path / "hangs", ["hang"])
    assert cluster.sweep(hung, *hangs, "cluster.hang_timeout_s=45.0").returncode == 0
    fails = failing_submission.write(tmp_path / "fails", list(WAYS))
    assert cluster.sweep(ways, *fails, "cluster.gpus_per_node=1", "cluster.array_parallelism=2").returncode == 0
    data = tmp_path / "data"
    shutil.copytree(cluster.data_root, data)
    loses_data = f"cluster.setup=['export TORCHDYNAMO_DISABLE=1', 'rm -r {data}/criteo']"
    one_rank = ("cluster.gpus_per_node=1", "submission=baseline", trials(1))
    assert cluster.sweep(without_data, f"data_root={data}", loses_data, *one_rank).returncode == 0

    nowhere = "cluster.srun_arguments=['--output=/proc/nowhere/%t']"
    assert cluster.sweep(unlaunched, *one_rank, nowhere).returncode == 0

    kill_a_rank(cluster, killed)
    assert "nothing to submit" in cluster.sweep(killed, *slow).stdout
    (tmp_path / "slow_killed.fast").touch()
    assert cluster.sweep(killed, *slow, "--retry-failed").returncode == 0
    for number in range(1, len(WAYS) + 1):
        cluster.wait_until(result_path(ways, number).exists, f"trial {number} ends")
    check_ways(cluster, ways)
    cluster.wait_until(result_path(without_data).exists, "the trial without data ends")
    cluster.wait_until(lambda: cluster.failed_jobs(without_data) == 1, "the job without data has failed")
    assert "data, rank 0: " in cluster.perfbench("status", str(without_data)).stdout
    cluster.wait_until(result_path(unlaunched).exists, "the trial whose ranks cannot be launched ends")
    assert "srun ended with exit code 0 and no result: task 0 launch failed" in outcome_message(unlaunched)
    assert len(lines(result_path(unlaunched).parent, "telemetry.jsonl", "started")) == 3
    cluster.wait_until(result_path(hung).exists, "the hanging trial is ended")
    stacks = sorted(result_path(hung).parent.glob("logs/stacks_attempt_1_rank_?.txt"))
    assert [path.name[-5] for path in stacks] == ["0", "1"]
    assert "go_wrong" in stacks[1].with_name("stacks_attempt_1_trainer_1.txt").read_text()
    cluster.wait_until(lambda: cluster.failed_jobs(hung) == 1, "the hanging job has failed")
    assert "hang, rank 0: no step" in cluster.perfbench("status", str(hung)).stdout
    cluster.wait_until(lambda: result_path(killed).exists() and not has_crashed(killed), "the retried trial ends")


def kill_a_rank(cluster: TestCluster, runs_root: Path) -> None:
    """Kill the second rank; all ranks end within seconds, with the reason in the result."""
    folder = result_path(runs_root).parent
    cluster.wait_until(lambda: has_saved(folder), "a checkpoint before the kill")
    os.kill(workers(folder)[1].pid, signal.SIGKILL)
    killed_s = time.monotonic()
    cluster.wait_until(result_path(runs_root).exists, "the trial of the killed rank ends")
    assert time.monotonic() - killed_s < 60
    assert workers(folder) == []
    outcome = outcome_of(runs_root)
    assert isinstance(outcome, Crashed)
    assert (outcome.reason, outcome.rank) == (FailureReason.NODE, 1)
    assert outcome.message == "killed (SIGKILL): out of memory or killed by hand"
    cluster.wait_until(lambda: cluster.failed_jobs(runs_root) == 1, "the job of the killed rank has failed")
    assert "node, rank 1: killed (SIGKILL)" in cluster.perfbench("status", str(runs_root)).stdout


def check_ways(cluster: TestCluster, runs_root: Path) -> None:
    """Each trial of the array has ended in its own way, with its own words."""
    outcomes = [outcome_of(runs_root, number) for number in range(1, len(WAYS) + 1)]
    assert [outcome.kind for outcome in outcomes] == ["crashed", "crashed", "diverged", "budget_spent"]
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Crashed)]
    assert reasons == [FailureReason.SUBMISSION, FailureReason.OUT_OF_MEMORY]
    cluster.wait_until(lambda: cluster.failed_jobs(runs_root) == 3, "three of four jobs have failed")
    status = cluster.perfbench("status", str(runs_root)).stdout
    assert [text for text in WAYS.values() if text not in status] == []


def goes_on(cluster: TestCluster, root: Path) -> bool:
    """Tell whether a trial has saved in an attempt after its first.

    Slurm may hold its job and close the node that came back too soon ("Duplicate jobid"): do as an operator would.
    """
    if "held (" in cluster.perfbench("status", str(root)).stdout:
        cluster.open_nodes()
        assert "released held jobs: " in cluster.perfbench("resume", str(root)).stdout
    folder = result_path(root).parent
    num_attempts = len(lines(folder, "telemetry.jsonl", "started"))
    return any(has_saved(folder, attempt=attempt) for attempt in range(2, num_attempts + 1))


def test_trials_survive_the_loss_of_any_of_their_nodes(cluster: TestCluster, tmp_path: Path) -> None:
    """First a node where only ranks are, then the first node, where the element is that watches them.

    The second time Slurm may not requeue one of the jobs: it ends for good, as it does when a node comes back at the
    wrong moment, and the scoring job puts the trial back. Should Slurm do so by itself to any of them, that is as good.
    """
    wide, narrow = tmp_path / "wide", tmp_path / "narrow"
    slow = [slow_submission(tmp_path / name, pause_s=0.6) for name in ("slow_wide", "slow_narrow")]
    for root, code, num_nodes in ((narrow, slow[1], 1), (wide, slow[0], 2)):
        nodes = (f"cluster.nodes={num_nodes}", "cluster.gpus_per_node=1")
        done = cluster.sweep(root, "submission=baseline", code, trials(1), *SLOW, *nodes, looked_after=True)
        assert done.returncode == 0, done.stderr
    wide_folder, narrow_folder = result_path(wide).parent, result_path(narrow).parent
    for folder in (wide_folder, narrow_folder):
        cluster.wait_until(lambda folder=folder: has_saved(folder), "a checkpoint before a node is lost")  # type: ignore[misc]
    assert len(workers(wide_folder)) == 2
    (tmp_path / "slow_narrow.stuck").touch()  # else it might end meanwhile

    cluster.kill_daemon("n2")
    cluster.wait_until(lambda: "down" in cluster.slurm("sinfo", "--noheader", "--format=%T"), "the node counts as down")
    cluster.start_daemon("n2")
    cluster.wait_until(lambda: goes_on(cluster, wide), "the trial goes on after its second node was lost")
    assert len(lines(narrow_folder, "telemetry.jsonl", "started")) == 1

    (tmp_path / "slow_narrow.stuck").unlink()
    cluster.slurm("scontrol", "update", f"JobId={job_of(cluster, narrow)}", "Requeue=0")
    cluster.kill_daemon("n1")
    orphans = [process.pid for process in workers(narrow_folder)]
    cluster.slurm("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=lost")  # without waiting for it to be seen
    cluster.wait_until(lambda: goes_on(cluster, narrow), "the trial goes on on the other node")
    assert not any(psutil.pid_exists(pid) for pid in orphans)
    started = lines(narrow_folder, "telemetry.jsonl", "started")
    assert [line["nodes"] for line in started] == ["n1", "n2"]
    assert len(list(narrow.glob(".slurm/arrays/*"))) == 2, "it was put back in another array"
    cluster.end_processes("n1")
    cluster.start_daemon("n1")
    for name in ("slow_wide", "slow_narrow"):
        (tmp_path / f"{name}.fast").touch()
    for root, num_attempts in ((narrow, 2), (wide, 3)):
        cluster.wait_until(result_path(root).exists, "the trial ends in spite of lost nodes")
        result = TrialFolder(result_path(root).parent).result()
        assert result is not None
        assert result.outcome.kind == "budget_spent"
        assert result.num_attempts >= num_attempts
        assert lines(result_path(root).parent, "measurements.jsonl", "resumed")[-1]["from_step"] > 0
