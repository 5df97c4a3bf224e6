"""W&B as a mirror: what it is sent, what it cannot do to a trial, and what is said before one starts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from perfbench.results.store import TrialFolder
from perfbench.spec.result import Measurement, Resumed
from perfbench.spec.run import WandbTracking
from perfbench.tracking.beside import END_PATIENCE_S, Mirror, NoMirror, mirrored
from tests.integration import small_criteo
from tests.trial_folders import measurement, result_of, trial_spec, write_trial
from tests.wandb_files import OfflineRun, offline_runs
from tests.wandb_service import API_KEY, TEAM, Service, serving

pytestmark = pytest.mark.slow

ONLINE, OFFLINE = WandbTracking(kind="wandb"), WandbTracking(kind="wandb_offline", artifacts=True)
LONGEST_DELAY_S = 5.0
PATIENCE_S = 200
"""For a busy machine. Less than a test's own limit."""
QUICK = ("submission=baseline", "trial=1")
UNCOMPILED = {"TORCHDYNAMO_DISABLE": "1"}
"""Nothing is compiled, which takes most of a short trial."""


def steps_line(folder: TrialFolder, steps: list[int], time_s: float) -> None:
    """Write what the loop notes at the end of a segment."""
    columns = {"step": steps, "loss": [1.0 / step for step in steps], "grad_norm": [2.0 for _ in steps]}
    end = {"at_step": steps[-1], "submission_time_s": time_s, "data_wait_s": 0.1 * time_s}
    folder.append_telemetry("steps", columns | end)


def attempt(folder: TrialFolder, number: int) -> None:
    folder.append_telemetry("started", {"attempt": number})


def recorded(runs: Path, *, is_finished: bool = True) -> TrialFolder:
    """Write a trial of two segments and two evaluations, in the order in which the loop writes."""
    folder = write_trial(runs, trial_spec(), [], is_finished=False)
    attempt(folder, 1)
    for segment, loss in enumerate((0.9, 0.4), start=1):
        steps_line(folder, [10 * segment - 5, 10 * segment], 10.0 * segment)
        folder.append(measurement(step=10 * segment, time_s=10.0 * segment, loss=loss))
        used = {"at_step": 10 * segment, "submission_time_s": 10.0 * segment, "host_memory_bytes": 1e9}
        folder.append_telemetry("resources", used)
    if is_finished:
        finish(folder)
    return folder


def finish(folder: TrialFolder) -> None:
    folder.write_result(result_of(folder.trial(), folder.measurements()))


def evaluations(rows: list[dict[str, float]]) -> list[tuple[float, float]]:
    """Return submission time and loss of every evaluation among rows."""
    return [(row["submission_time_s"], row["validation/loss"]) for row in rows if "validation/loss" in row]


def perfbench(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perfbench", *arguments]
    merged = small_criteo.environment() | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=merged)


@pytest.fixture(autouse=True)
def mirrors_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the lowest priority they would start and end when the tests beside them let them, and give up before."""
    monkeypatch.setattr("perfbench.tracking.beside.LOWEST_PRIORITY", 0)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as started:
        yield started


# Offline.


def close(mirror: Mirror | NoMirror, patience_s: float) -> None:
    assert isinstance(mirror, Mirror)
    mirror.close(patience_s=patience_s)


def mirror_offline(folder: TrialFolder) -> OfflineRun:
    warnings: list[str] = []
    before = set(folder.path.rglob("*.wandb"))
    with mirrored(folder, OFFLINE, warnings.append) as mirror:
        deadline_s = time.monotonic() + PATIENCE_S
        while not set(folder.path.rglob("*.wandb")) - before and time.monotonic() < deadline_s:
            mirror.watch()
            time.sleep(0.1)
        close(mirror, PATIENCE_S)
    assert warnings == []
    (run,) = offline_runs(folder.path)
    return run


def test_offline_files_hold_every_measurement_the_configuration_and_the_right_axis(tmp_path: Path) -> None:
    folder = recorded(tmp_path)

    run = mirror_offline(folder)

    assert evaluations(run.rows) == [(10.0, 0.9), (20.0, 0.4)]
    assert run.metrics["*"] == "submission_time_s"
    assert run.metrics["by_step/*"] == "step"
    assert run.metrics["validation/loss"] == "submission_time_s"
    losses = [(row["step"], row["submission_time_s"], row["train/loss"]) for row in run.rows if "train/loss" in row]
    assert losses == [(5, 5.0, 1 / 5), (10, 10.0, 1 / 10), (15, 15.0, 1 / 15), (20, 20.0, 1 / 20)]
    assert [row["train/steps_per_s"] for row in run.rows if "train/steps_per_s" in row] == [1.0, 1.0]
    assert [row["_step"] for row in run.rows] == list(range(8))
    assert {"submission": "adamw", "workload": "criteo", "study": 0, "trial": 1}.items() <= run.config.items()
    assert run.config["hyperparameters/x"] == 1.0
    assert run.config["facts"] == folder.trial().model_dump(mode="json", exclude={"data_root"})
    assert (run.project, run.group, run.job_type) == ("perfbench", "adamw/criteo/study_0", "external")
    assert run.tags == ["adamw", "criteo", "mini", "test", "external"]
    assert run.summary["outcome"] == "reached"
    assert run.summary["time_to_target_s"] == 20.0
    assert run.summary["time/wall_s"] == 21.0
    assert run.summary["time/eval_share"] == pytest.approx(1 / 21)
    assert run.rows[3]["target/validation/loss"] == 0.5
    assert run.rows[3]["budget/used"] == 0.1
    assert run.run_id == folder.tracking_id()
    ((name, files),) = run.artifacts.items()
    assert (name, sorted(files)) == (f"trial-{run.run_id}", ["measurements.jsonl", "result.json", "run.json"])


def test_a_resumed_trial_is_one_run_without_what_the_resume_made_void(tmp_path: Path) -> None:
    folder = recorded(tmp_path, is_finished=False)
    first = mirror_offline(folder)
    attempt(folder, 2)
    folder.append(Resumed(attempt=2, from_step=10, submission_time_s=10.0, wall_time_utc="2026-01-01T00:01:00Z"))
    steps_line(folder, [15, 20], 20.5)
    folder.append(measurement(step=20, time_s=20.5, loss=0.45, attempt=2))
    finish(folder)

    second = mirror_offline(folder)

    assert first.run_id == second.run_id
    assert evaluations(first.rows) == [(10.0, 0.9), (20.0, 0.4)]
    assert evaluations(second.rows) == [(10.0, 0.9), (20.5, 0.45)]
    assert second.summary["time_to_target_s"] == 20.5


FOREIGN = {
    "WANDB_SWEEP_ID": "a1b2c3d4",
    "WANDB_RUN_ID": "another",
    "WANDB_PROJECT": "another",
    "WANDB_NAME": "another",
    "WANDB_RESUME": "never",
    "WANDB_MODE": "disabled",
}
"""What the shell of somebody who uses W&B for other things may hold."""


def test_sync_can_write_the_files_of_a_trial_that_had_no_mirror(tmp_path: Path) -> None:
    """Whatever runs the environment speaks of."""
    folder = recorded(tmp_path)
    sync = ("sync", str(tmp_path), "--offline")

    written = perfbench(*sync, environment=FOREIGN)

    assert written.returncode == 0, written.stderr
    assert "8 rows written" in written.stdout
    (run,) = offline_runs(folder.path)
    assert evaluations(run.rows) == [(10.0, 0.9), (20.0, 0.4)]
    assert run.run_id == folder.tracking_id()
    assert run.project == "perfbench"
    assert perfbench(*sync, environment=FOREIGN).returncode == 0
    assert {again.run_id for again in offline_runs(folder.path)} == {run.run_id}


# Online.


def test_sync_sends_everything_once_however_often_it_is_called(service: Service, tmp_path: Path) -> None:
    folder = recorded(tmp_path, is_finished=False)
    sync = ("sync", str(tmp_path), "--entity", TEAM)

    assert "8 rows sent" in perfbench(*sync, environment=service.environment()).stdout
    (name,) = service.history
    assert name == folder.tracking_id()
    assert evaluations(service.history[name]) == [(10.0, 0.9), (20.0, 0.4)]
    again = perfbench(*sync, environment=service.environment())
    assert again.returncode == 0, again.stderr
    assert "0 rows sent" in again.stdout

    folder.append(measurement(step=30, time_s=30.0, loss=0.3))
    finish(folder)
    assert "1 rows sent" in perfbench(*sync, environment=service.environment()).stdout

    assert list(service.history) == [name]
    assert [row["_step"] for row in service.history[name]] == list(range(9))
    assert evaluations(service.history[name]) == [(10.0, 0.9), (20.0, 0.4), (30.0, 0.3)]
    assert "facts" in service.upserts[0]["config"]
    assert_no_secret_in(tmp_path)


def assert_no_secret_in(folder: Path) -> None:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert len(paths) >= 3
    for path in paths:
        assert API_KEY.encode() not in path.read_bytes(), path


def test_a_requeued_trial_continues_its_run_where_the_last_attempt_ended(service: Service, tmp_path: Path) -> None:
    folder = recorded(tmp_path, is_finished=False)
    live(folder, service, until=lambda: len(service.history.get(folder.tracking_id(), [])) >= 6)
    assert len(service.history[folder.tracking_id()]) == 8
    num_upserts = len(service.upserts)
    attempt(folder, 2)
    folder.append(Resumed(attempt=2, from_step=20, submission_time_s=20.0, wall_time_utc="2026-01-01T00:01:00Z"))
    folder.append(measurement(step=30, time_s=30.0, loss=0.3, attempt=2))
    finish(folder)

    warnings, _ = live(folder, service, until=lambda: len(service.upserts) > num_upserts)

    assert warnings == []
    (rows,) = service.history.values()
    assert evaluations(rows) == [(10.0, 0.9), (20.0, 0.4), (30.0, 0.3)]
    assert [row["_step"] for row in rows] == list(range(9))


def live(
    folder: TrialFolder, service: Service, until: Callable[[], bool], end_patience_s: float = PATIENCE_S
) -> tuple[list[str], float]:
    """Mirror a trial until something is so; return the warnings and how long the end took."""
    warnings: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in service.environment().items():
            patch.setenv(name, value)
        with mirrored(folder, ONLINE, warnings.append) as mirror:
            deadline_s = time.monotonic() + PATIENCE_S
            while not until():
                mirror.watch()
                assert time.monotonic() < deadline_s, "the mirror does not get so far"
                time.sleep(0.1)
            ended_s = time.monotonic()
            close(mirror, end_patience_s)
        return warnings, time.monotonic() - ended_s


@pytest.mark.parametrize(
    ("mode", "at"), [("hang", "later"), ("error", "later"), ("reset", "later"), ("hang", "start"), ("reset", "start")]
)
def test_whatever_the_service_does_the_end_waits_at_most_so_long_and_says_so_once(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, at: str
) -> None:
    """And what W&B keeps in its temporary folder, which a killed one does not remove, does not stay on the machine."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    folder = recorded(tmp_path / "runs")
    others = set(psutil.Process().children(recursive=True))  # of tests before this one, such as compilers
    started_with: list[psutil.Process] = []

    def until() -> bool:
        if at == "later" and not service.upserts:
            return False
        service.mode = mode
        is_there = service.num_requests > (0 if at == "start" else 2)
        if is_there:
            started_with.extend(set(psutil.Process().children(recursive=True)) - others)
        return is_there

    service.mode = mode if at == "start" else "accept"
    warnings, delay_s = live(folder, service, until, END_PATIENCE_S)

    assert delay_s <= LONGEST_DELAY_S
    assert len(warnings) == 1
    assert warnings[0].startswith("not everything was mirrored (")
    assert warnings[0].endswith(f"); the records are whole, `perfbench sync {folder.path}` sends them")
    assert len(started_with) >= 2
    assert_dead_soon(started_with)
    assert list(temporary.iterdir()) == []
    assert_no_secret_in(tmp_path)


def assert_dead_soon(processes: list[psutil.Process], patience_s: float = PATIENCE_S) -> None:
    """Killed processes at the lowest priority get to their death when a full machine lets them."""
    deadline_s = time.monotonic() + patience_s
    while alive := [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline_s, alive
        time.sleep(0.1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """Run a trial without tracking where importing wandb leaves a trace; return the folder of both."""
    folder = tmp_path_factory.mktemp("plain")
    done = perfbench(*run_arguments(data_root, folder / "runs"), environment=UNCOMPILED | without_wandb(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_a_trial_beside_a_hanging_service_has_the_result_of_one_without(
    service: Service, tmp_path: Path, data_root: Path, plain: Path
) -> None:
    service.mode = "hang"

    beside = perfbench(
        *run_arguments(data_root, tmp_path, "tracking=wandb"), environment=UNCOMPILED | service.environment()
    )

    assert beside.returncode == 0, beside.stderr
    output = " ".join(beside.stdout.split())
    assert output.count("warning W&B cannot be reached now (") == 1
    assert output.count("not everything was mirrored (") == 1
    folders = [TrialFolder(small_criteo.trial_folder(runs, "baseline")) for runs in (plain / "runs", tmp_path)]
    expected, found = (as_numbers(folder.measurements()) for folder in folders)
    assert found == expected
    assert len(found) == 6
    assert_no_secret_in(tmp_path)


def as_numbers(measurements: list[Measurement]) -> list[tuple[int, dict[str, float]]]:
    return [(one.step, one.metrics) for one in measurements]


def run_arguments(data_root: Path, runs: Path, *overrides: str) -> list[str]:
    """Return the arguments of a trial of a few thousand rows."""
    return small_criteo.command(data_root, runs, *QUICK, small_criteo.UNCOMPILED, *overrides)[3:]


# Before a trial starts.


def refused(data_root: Path, tmp_path: Path, *overrides: str, environment: dict[str, str]) -> str:
    done = perfbench(*run_arguments(data_root, tmp_path / "runs", *overrides), environment=environment)
    assert done.returncode == 2, done.stdout
    assert not (tmp_path / "runs").exists()
    return done.stderr


def test_without_a_login_nothing_starts(tmp_path: Path, data_root: Path) -> None:
    nowhere = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_API_KEY": ""}

    message = refused(data_root, tmp_path, "tracking=wandb", environment=nowhere)

    assert "tracking: no valid W&B login: " in message
    assert "run `wandb login`, or set WANDB_API_KEY, or use tracking=wandb_offline, or tracking=none" in message


def test_a_team_that_one_is_not_in_is_named(service: Service, tmp_path: Path, data_root: Path) -> None:
    overrides = ("tracking=wandb", "tracking.entity=nobody")

    message = refused(data_root, tmp_path, *overrides, environment=service.environment())

    assert "tracking.entity: your W&B login belongs to no user or team named 'nobody'" in message
    assert "it may write to optimizers, someone" in message


def test_a_project_that_cannot_be_is_refused(tmp_path: Path, data_root: Path) -> None:
    message = refused(data_root, tmp_path, "tracking=wandb_offline", "tracking.project=a/b", environment={})

    assert "tracking.project: string should match pattern" in message


def without_wandb(folder: Path) -> dict[str, str]:
    """Return an environment in which importing wandb leaves a trace and fails."""
    package = folder / "broken" / "wandb"
    package.mkdir(parents=True)
    trace = folder / "wandb_was_imported"
    (package / "__init__.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise ImportError('not installed')\n")
    path = os.pathsep.join([str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path}


def test_without_tracking_no_process_of_a_trial_imports_wandb(plain: Path) -> None:
    assert list(plain.rglob("result.json"))
    assert not (plain / "wandb_was_imported").exists()
    assert not list(plain.rglob("*mirror*"))


def test_the_trace_of_an_import_would_be_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import wandb"]

    subprocess.run(command, env=os.environ | without_wandb(tmp_path), check=False, capture_output=True)

    assert (tmp_path / "wandb_was_imported").exists()
