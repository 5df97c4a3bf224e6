"""Slurm's commands when the controller is slow, away, or holds jobs: its commands are shell scripts here."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from perfbench.cli.arrays import SubmitOptions, submit_or_show
from perfbench.cli.main import main
from perfbench.compose import compose_sweep
from perfbench.errors import LaunchError
from perfbench.launch.slurm import controller
from perfbench.launch.slurm.arrays import plan_arrays
from perfbench.launch.slurm.disk import largest_checkpoint_bytes
from perfbench.launch.slurm.manifest import ArrayManifest, new_array_id
from perfbench.launch.sweep import plan_sweep
from perfbench.results.store import TrialFolder
from perfbench.spec.run import NoTracking, SlurmCluster, TrialSpec

AWAY = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
SLOW = "exec sleep 20"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose programs are found first; the controller is given up soon."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(controller, "_PAUSE_S", 0.0)
    return folder


def write(commands: Path, name: str, script: str) -> None:
    path = commands / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def failing_at_first(commands: Path, times: int, then: str) -> str:
    """Return a script that cannot reach the controller so often."""
    calls = commands / "calls"
    return f'echo . >> "{calls}"; [ $(wc -l < "{calls}") -gt {times} ] || {{ {AWAY}; }}\n{then}'


def submitted(runs_root: Path) -> tuple[SlurmCluster, TrialSpec, str]:
    """Write what a submitted array of one trial leaves, and return the name of its job too."""
    requests = compose_sweep(["cluster=slurm"])
    trial, cluster = plan_sweep(requests)[0], requests[0].cluster
    assert isinstance(cluster, SlurmCluster)
    folder = TrialFolder.of(runs_root, trial)
    folder.claim(trial)
    manifest = ArrayManifest(
        array_id=new_array_id(),
        title="baseline.criteo",
        cluster=cluster,
        runs_root=str(runs_root),
        snapshot=str(runs_root),
        submission_folder=None,
        trial_folders=(str(folder.path.relative_to(runs_root)),),
        time_limit_min=1,
    )
    manifest.write()
    return cluster, trial, manifest.job_name


def test_a_controller_that_does_not_answer_is_not_reachable_and_refuses_nothing(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "_TIMEOUT_S", 0.3)
    write(commands, "sinfo", SLOW)
    write(commands, "sbatch", SLOW)

    assert not controller.is_reachable()
    controller.check_acceptable("job.sh")  # submitting will show


HOSTILE = {"SQUEUE_STATES": "RUNNING", "SLURM_JOB_ID": "1", "SBATCH_ARRAY_INX": "0-1", "SLURM_CLUSTERS": "another"}


@pytest.mark.parametrize(
    ("program", "ask"),
    [
        ("squeue", controller.queued_jobs),
        ("squeue", lambda: controller.may_run("7")),
        ("scontrol", lambda: controller.requeue("7")),
        ("scontrol", controller.max_array_size),
        ("scancel", lambda: controller.cancel(["7"])),
        ("sinfo", controller.is_reachable),
        ("sbatch", lambda: controller.check_acceptable("#!/bin/sh")),
    ],
)
def test_slurm_s_commands_get_no_option_from_the_environment(
    commands: Path, monkeypatch: pytest.MonkeyPatch, program: str, ask: Callable[[], object]
) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_CONF", "/a/slurm.conf")
    write(commands, program, f'env > "{commands}/seen"')

    ask()

    seen = (commands / "seen").read_text().splitlines()
    assert "SLURM_CONF=/a/slurm.conf" in seen
    assert [line for line in seen if line.partition("=")[0] in HOSTILE] == []


@pytest.mark.parametrize("is_closed", [True, False])
def test_what_no_node_has_now_is_refused_unless_nodes_are_out_of_service(commands: Path, *, is_closed: bool) -> None:
    write(commands, "sbatch", "echo 'allocation failure: Requested node configuration is not available' >&2; exit 1")
    write(commands, "sinfo", "echo n1; echo n2; echo n1" if is_closed else "exit 0")

    if is_closed:
        assert controller.check_acceptable("") == ("no node that is in service has so much now; these are not: n1, n2")
    else:
        with pytest.raises(LaunchError, match="Requested node configuration is not available"):
            controller.check_acceptable("")


def test_cancel_without_a_cluster_says_so_in_our_words(commands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Slurm's programs are here, and configured for nothing."""
    for name in ("sbatch", "srun"):
        write(commands, name, "exit 1")
    write(commands, "squeue", "echo 'squeue: fatal: Could not establish a configuration source' >&2; exit 1")

    assert main(["cancel", str(commands)]) == 2

    said = capsys.readouterr().err
    assert "Slurm: squeue failed: squeue: fatal: Could not establish a configuration source" in said
    assert "hint: is this a login node of the cluster" in said


def test_a_job_is_requeued_once_the_controller_is_back(commands: Path) -> None:
    """A controller that is away ends no job either."""
    write(commands, "scontrol", failing_at_first(commands, 9, f'echo "$@" > "{commands}/asked"'))

    controller.requeue("7_3")

    assert (commands / "asked").read_text() == "requeue 7_3\n"


def test_a_requeue_that_is_refused_is_not_asked_for_again(commands: Path) -> None:
    write(commands, "scontrol", f'echo . >> "{commands}/calls"; echo "Requested operation is disabled" >&2; exit 1')

    with pytest.raises(LaunchError, match="scontrol failed: Requested operation is disabled"):
        controller.requeue("7_3")

    assert (commands / "calls").read_text() == ".\n"


def test_status_says_that_slurm_cannot_be_asked_and_goes_on_watching(
    commands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted(tmp_path / "runs")
    write(commands, "sinfo", failing_at_first(commands, 1, "exit 0"))
    write(commands, "squeue", "exit 0")

    assert main(["status", str(tmp_path / "runs"), "--watch", "--period-s", "0"]) == 0

    shown = capsys.readouterr().out
    assert shown.count("1 trial: 1 planned") == 2
    assert shown.count("warning Slurm cannot be asked (its controller does not answer)") == 1


def test_a_sweep_names_held_jobs_and_what_releases_them(commands: Path, tmp_path: Path) -> None:
    cluster, trial, name = submitted(tmp_path)
    write(commands, "sinfo", "exit 0")
    write(commands, "scontrol", "echo 'MaxArraySize = 1001'")
    write(commands, "squeue", f"echo '17|17|N/A|PENDING|launch failed requeued held||{name}'")
    text = io.StringIO()
    options = SubmitOptions(is_dry=True, retry_failed=False, tracking=NoTracking())

    submit_or_show([trial], cluster, tmp_path, Console(file=text, soft_wrap=True), options)

    assert text.getvalue() == (
        f"1 trial: 1 queued\nheld by Slurm: 17; `perfbench resume {tmp_path}` releases\nnothing to submit\n"
    )


def test_a_checkpoint_that_vanishes_while_it_is_measured_costs_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials of the same submission and workload may run meanwhile: they keep their newest two."""
    cluster, trial, _ = submitted(tmp_path)
    (array,) = plan_arrays([trial], cluster, max_array_size=1001)
    checkpoint = TrialFolder.of(tmp_path, trial).states / "step_000000010"
    checkpoint.mkdir(parents=True)
    (checkpoint / "rank_0.pt").write_bytes(b"12345")
    assert largest_checkpoint_bytes(array, tmp_path) == 5
    stat = Path.stat

    def vanishing(path: Path, **how: bool) -> os.stat_result:
        found = stat(path, **how)
        if path.name == "rank_0.pt":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "stat", vanishing)

    assert largest_checkpoint_bytes(array, tmp_path) in (0, 5)
