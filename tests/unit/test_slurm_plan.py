"""Plans of sweeps: how arrays are cut, what they cost, what Slurm gets, what is left to submit. No Slurm needed."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from perfbench.cli.arrays import SubmitOptions, submit_or_show
from perfbench.compose import compose_sweep
from perfbench.errors import ConfigError, LaunchError
from perfbench.launch.slurm import controller
from perfbench.launch.slurm.arrays import check_time_limits, plan_arrays, rank_hours_at_most, time_limit_min
from perfbench.launch.slurm.snapshot import snapshot_folder, take_snapshot
from perfbench.launch.slurm.submission import check_site, texts
from perfbench.launch.states import JobOfTrial, TrialState, statuses
from perfbench.launch.sweep import look_up, plan_sweep, to_submit
from perfbench.results.store import TrialFolder
from perfbench.spec.result import BudgetSpent, Crashed, FailureReason, Outcome, PhaseTimes, TrialResult
from perfbench.spec.run import NoTracking, RunSpec, SlurmCluster, TrialSpec

SWEEP = ("workload=criteo,criteo_resnet", "submission=baseline,adamw", "study=0,1", "cluster=slurm")
NUM_SUBMISSIONS, NUM_WORKLOADS, NUM_STUDIES = 17, 14, 5
LIMIT_S = 3.0


def cluster_of(requests: list[RunSpec]) -> SlurmCluster:
    cluster = requests[0].cluster
    assert isinstance(cluster, SlurmCluster)
    return cluster


def result_of(trial: TrialSpec, outcome: Outcome) -> TrialResult:
    return TrialResult(
        trial_identity=trial.identity(),
        outcome=outcome,
        scorable=True,
        num_attempts=1,
        num_steps=10,
        num_measurements=0,
        phases=PhaseTimes(),
        num_recompiles_after_warmup=0,
        best_metric=0.5,
    )


SPENT = BudgetSpent(resource="steps", step=10, submission_time_s=1.5)
CRASHED = Crashed(reason=FailureReason.OUT_OF_MEMORY, rank=3, error_type="MemoryError", message="too much", step=4)


def test_a_sweep_is_every_pair_in_every_study() -> None:
    trials = plan_sweep(compose_sweep(SWEEP))

    names = {(trial.submission.name, trial.workload.name, trial.study, trial.trial) for trial in trials}
    assert len(trials) == len(names) == 2 * 2 * 2 * 5
    assert {trial.num_ranks for trial in trials} == {8}


def test_a_pair_of_a_sweep_is_planned_as_if_it_were_alone() -> None:
    together = plan_sweep(compose_sweep([*SWEEP, "seed=4", "workload.eval_period_s=7.0"]))
    alone = plan_sweep(
        compose_sweep(
            ["workload=criteo_resnet", "submission=adamw", "study=1", "seed=4", "workload.eval_period_s=7.0", SWEEP[-1]]
        )
    )

    assert together[-5:] == alone


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["workload=allo"], "workload: no workload or suite named 'allo'\n  hint: 'allo': did you mean 'all'?"),
        (["seed=1,2"], "seed: only workload, submission and study can be several"),
        (["study=0,x"], "study: not the number of a study: 'x'"),
        (["submission=baseline,shampo"], "submission: no submission named 'shampo'"),
        (["workload=all", "cluster=slurm", "cluster.partitio=gpu"], "hint: 'partitio': did you mean 'partition'?"),
    ],
)
def test_an_impossible_sweep_is_explained(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_sweep(overrides)

    assert expected in str(refused.value)


def test_an_array_has_one_submission_and_workload_and_is_split_where_the_cluster_says() -> None:
    requests = compose_sweep(SWEEP)
    arrays = plan_arrays(plan_sweep(requests), cluster_of(requests), max_array_size=4)

    assert [len(array.trials) for array in arrays] == [4, 4, 2] * 4
    for array in arrays:
        assert len({(trial.submission.name, trial.workload.name) for trial in array.trials}) == 1


def test_the_time_limit_is_budget_evaluations_and_start() -> None:
    requests = compose_sweep(["cluster=slurm"])
    trial, cluster = plan_sweep(requests)[0], cluster_of(requests)

    assert trial.max_submission_time_s == 300
    assert time_limit_min(trial, cluster) == 5 * 1.5 + 30.5  # rounded up
    assert time_limit_min(trial, cluster.model_copy(update={"time_limit_min": 7})) == 7


@pytest.mark.parametrize(("limit_min", "lead_s", "least_min"), [(1, 180, 4), (3, 180, 4), (1, 10, 2)])
def test_a_limit_that_leaves_no_time_to_train_is_refused(limit_min: int, lead_s: int, least_min: int) -> None:
    overrides = ["cluster=slurm", f"cluster.time_limit_min={limit_min}", f"cluster.signal_lead_s={lead_s}"]
    requests = compose_sweep(overrides)
    cluster = cluster_of(requests)
    arrays = plan_arrays(plan_sweep(requests), cluster, max_array_size=1001)

    with pytest.raises(ConfigError, match="leave no time to train") as refused:
        check_time_limits(arrays, cluster)

    assert refused.value.where == "cluster.time_limit_min"
    assert f"at least {least_min}, " in refused.value.hint
    enough = cluster.model_copy(update={"time_limit_min": least_min})
    check_time_limits(plan_arrays(plan_sweep(requests), enough, max_array_size=1001), enough)


def test_a_trial_that_runs_here_is_running_and_is_not_submitted(tmp_path: Path) -> None:
    """Its lock tells, where no queue knows of it."""
    trial = plan_sweep(compose_sweep(["cluster=slurm"]))[0]
    folder = TrialFolder.of(tmp_path, trial)
    folder.claim(trial)
    folder.append_telemetry("started", {"attempt": 1})

    with folder.locked():
        (running,) = statuses(tmp_path, {})
        swept = look_up([trial], tmp_path, {})
    (interrupted,) = statuses(tmp_path, {})

    assert running.state is TrialState.RUNNING
    assert to_submit(swept, retry_failed=True) == []
    assert interrupted.state is TrialState.INTERRUPTED


def test_gpu_hours_are_ranks_times_limits() -> None:
    requests = compose_sweep(["cluster=slurm", "cluster.time_limit_min=90", "cluster.nodes=2"])
    arrays = plan_arrays(plan_sweep(requests), cluster_of(requests), max_array_size=1001)

    assert rank_hours_at_most(arrays) == 5 * 16 * 1.5


def test_the_job_script_says_what_was_asked_for(tmp_path: Path) -> None:
    requests = compose_sweep(
        [
            "cluster=slurm",
            "cluster.partition=gpu",
            "cluster.account=proj",
            "cluster.qos=high",
            "cluster.constraint=h100",
            "cluster.array_parallelism=3",
            "cluster.site=offline",
            "cluster.setup=['module load cuda']",
            "cluster.sbatch_options={reservation: bench}",
            "cluster.time_limit_min=60",
        ]
    )
    cluster = cluster_of(requests)
    (text,) = texts(plan_arrays(plan_sweep(requests), cluster, max_array_size=1001), cluster, tmp_path)

    lines = text.splitlines()
    for option in (
        "array=0-4%3",
        "partition=gpu",
        "account=proj",
        "qos=high",
        "constraint=h100",
        "reservation=bench",
        "nodes=1",
        "gpus-per-node=8",
        "ntasks-per-node=8",
        "time=60",
        "signal=B:USR2@180",
        "requeue",
    ):
        assert f"#SBATCH --{option}" in lines
    assert not any("wckey" in line for line in lines)
    order = [lines.index(line) for line in lines if "sites/offline.sh" in line or line == "module load cuda"]
    assert order == sorted(order)
    assert len(order) == 2
    assert lines[-1].startswith("exec ")


def test_without_slurm_a_sweep_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    requests = compose_sweep(["cluster=slurm"])
    trials, cluster, runs_root = plan_sweep(requests), cluster_of(requests), tmp_path / "runs"

    with pytest.raises(LaunchError, match="no sbatch on PATH: this machine is not part of a Slurm cluster") as refused:
        options = SubmitOptions(is_dry=False, retry_failed=False, tracking=NoTracking())
        submit_or_show(trials, cluster, runs_root, Console(), options)

    assert not runs_root.exists()
    assert "--dry-run works anywhere" in refused.value.hint


def test_an_unknown_site_is_refused_with_the_known_ones() -> None:
    requests = compose_sweep(["cluster=slurm", "cluster.site=nowhere"])

    with pytest.raises(LaunchError, match="no set-up script of a site named 'nowhere'") as refused:
        check_site(cluster_of(requests))

    assert "apptainer" in refused.value.hint


def test_a_site_of_one_s_own_is_taken_along_in_the_place_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine/configs/cluster").mkdir(parents=True)
    (tmp_path / "mine/configs/cluster/lab.yaml").write_text("defaults: [slurm, _self_]\nsite: lab\n")
    script = tmp_path / "mine/slurm/sites/lab.sh"
    script.parent.mkdir(parents=True)
    script.write_text("module load lab\n")
    monkeypatch.setenv("PERFBENCH_PATH", str(tmp_path / "mine"))
    cluster = cluster_of(compose_sweep(["cluster=lab"]))

    check_site(cluster)
    snapshot = take_snapshot(tmp_path / "runs", submission_folder=None)

    assert (snapshot / "slurm/sites/lab.sh").read_text() == "module load lab\n"
    assert (snapshot / "slurm/sites/offline.sh").exists()
    script.write_text("module load other\n")
    assert snapshot_folder(tmp_path / "runs", submission_folder=None) != snapshot
    plan = plan_arrays(plan_sweep(compose_sweep(["cluster=lab"])), cluster, max_array_size=10)
    (text,) = texts(plan, cluster, tmp_path / "runs")
    assert re.search(r"^source .*/slurm/sites/lab.sh$", text, re.MULTILINE)


def test_only_what_nothing_takes_care_of_is_submitted(tmp_path: Path) -> None:
    trials = plan_sweep(compose_sweep(["cluster=slurm"]))
    folders = [TrialFolder.of(tmp_path, trial) for trial in trials]
    for trial, folder in zip(trials[:4], folders, strict=False):
        folder.claim(trial)
    folders[0].write_result(result_of(trials[0], SPENT))
    folders[1].write_result(result_of(trials[1], CRASHED))
    folders[2].append_telemetry("started", {"attempt": 1})
    jobs = {folders[3].path: JobOfTrial(job_id="7_3", is_running=False, reason="Priority")}

    swept = look_up(trials, tmp_path, jobs)

    assert [one.state for one in swept] == [
        TrialState.BUDGET_SPENT,
        TrialState.CRASHED,
        TrialState.INTERRUPTED,
        TrialState.QUEUED,
        TrialState.PLANNED,
    ]
    assert to_submit(swept, retry_failed=False) == [trials[2], trials[4]]
    assert to_submit(swept, retry_failed=True) == [trials[1], trials[2], trials[4]]
    crashed = statuses(tmp_path, jobs)[1]
    assert crashed.reason == "oom, rank 3: too much"
    held = JobOfTrial(job_id="7_3", is_running=False, reason="launch failed requeued held", is_held=True)
    assert statuses(tmp_path, {folders[3].path: held})[3].reason == (
        "held (launch failed requeued held): `perfbench resume` releases it"
    )


@pytest.mark.parametrize(
    ("line", "is_held"),
    [
        ("17|15|2|PENDING|launch failed requeued held||a.b.0a1b2c3d4e", True),
        ("17|15|2|PENDING|JobHeldUser||a.b.0a1b2c3d4e", True),
        ("17|15|2|PENDING|JobHeldAdmin||a.b.0a1b2c3d4e", False),
        ("17|15|2|RUNNING|None|n1|a.b.0a1b2c3d4e", False),
    ],
)
def test_only_what_its_owner_can_release_counts_as_held(
    monkeypatch: pytest.MonkeyPatch, line: str, *, is_held: bool
) -> None:
    monkeypatch.setattr(controller, "ask", lambda _command: line + "\n")

    (job,) = controller.queued_jobs()

    assert job.is_held is is_held


def test_later_edits_do_not_reach_a_snapshot(tmp_path: Path) -> None:
    outside = tmp_path / "mine"
    outside.mkdir()
    code = outside / "submission.py"
    code.write_text("RATE = 1\n")
    snapshot = take_snapshot(tmp_path / "runs", submission_folder=str(outside))

    code.write_text("RATE = 2\n")

    assert (snapshot / "outside" / "mine" / "submission.py").read_text() == "RATE = 1\n"
    assert (snapshot / "src" / "perfbench" / "launch" / "worker.py").exists()
    assert snapshot_folder(tmp_path / "runs", submission_folder=str(outside)) != snapshot
    assert list(snapshot.parent.iterdir()) == [snapshot]


def competition(requests: list[RunSpec]) -> list[RunSpec]:
    """Return requests of the whole competition's size, under made-up names."""
    (request,) = requests
    return [
        request.model_copy(
            update={
                "submission": request.submission.model_copy(update={"name": f"submission_{s}"}),
                "workload": request.workload.model_copy(update={"name": f"workload_{w}"}),
                "study": study,
            }
        )
        for s in range(NUM_SUBMISSIONS)
        for w in range(NUM_WORKLOADS)
        for study in range(NUM_STUDIES)
    ]


def spent_s(started_s: float) -> float:
    """Return the processor time since: what a busy machine does not change."""
    return time.process_time() - started_s


def test_a_plan_of_the_whole_competition_is_immediate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    console = Console(record=True, width=160, file=(tmp_path / "out").open("w"))
    started_s = time.process_time()
    requests = compose_sweep(["cluster=slurm", "submission=shampoo"])
    trials = plan_sweep(competition(requests))

    options = SubmitOptions(is_dry=True, retry_failed=False, tracking=NoTracking())
    submit_or_show(trials, cluster_of(requests), tmp_path / "runs", console, options)

    assert spent_s(started_s) < LIMIT_S
    assert len(trials) == 5950
    assert "238 jobs with 5,950 elements" in console.export_text()


def test_status_of_the_whole_competition_is_immediate(tmp_path: Path) -> None:
    (request,) = compose_sweep(["cluster=slurm", "submission=shampoo"])
    trial = plan_sweep([request])[0]
    text = result_of(trial, SPENT).to_json()
    run, pulse = trial.to_json(), '{"kind": "pulse", "phase": "training", "at_step": 7, "submission_time_s": 2.5}\n'
    number = 0
    for s in range(NUM_SUBMISSIONS):
        for w in range(NUM_WORKLOADS):
            for study in range(NUM_STUDIES):
                for index in range(1, 6):
                    folder = tmp_path / f"submission_{s}" / f"study_{study}" / f"workload_{w}" / f"trial_{index}"
                    folder.mkdir(parents=True)
                    (folder / "run.json").write_text(run)
                    number += 1
                    if number % 3:
                        (folder / "result.json").write_text(text)
                    else:
                        (folder / "telemetry.jsonl").write_text(pulse * 50)
    started_s = time.process_time()

    found = statuses(tmp_path, {})

    assert spent_s(started_s) < LIMIT_S
    assert len(found) == 5950
    assert sum(status.state is TrialState.INTERRUPTED for status in found) == 5950 // 3
    assert found[2].step == 7
