"""Which trials Slurm has lost, and how a job decides what its ranks' end means. No Slurm needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perfbench.launch.ending import failed_at_start, failure_seen, stopped_as_told
from perfbench.launch.slurm import controller, element, step
from perfbench.launch.slurm.controller import QueuedJob
from perfbench.launch.slurm.lease import Lease
from perfbench.launch.slurm.manifest import ArrayManifest, new_array_id, submitting
from perfbench.launch.slurm.recovery import MOST_TIMES, lost_elements
from perfbench.launch.slurm.step import Attempt, StepEnd
from perfbench.launch.states import JobOfTrial
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, FailureReason
from perfbench.spec.run import NoTracking, SlurmCluster
from tests.trial_folders import result_of, trial_spec

REQUEUED = "slurmstepd-n1: error: *** JOB 17 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO JOB REQUEUE ***\n"
CANCELLED = "slurmstepd-n1: error: *** JOB 17 ON n1 CANCELLED AT 2026-01-01T00:00:09 ***\n"


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm knows of no job, and keeps no accounts."""
    monkeypatch.setattr(controller, "remembered_jobs", list)
    monkeypatch.setattr(controller, "accounted_states", lambda _: {})


def submitted(runs: Path, *, num_trials: int = 1, num_put_back: int = 0) -> ArrayManifest:
    """Write what a submitted array leaves; its trials have been started."""
    folders = []
    for number in range(1, num_trials + 1):
        trial = trial_spec(trial=number)
        folder = TrialFolder.of(runs, trial)
        folder.claim(trial)
        folder.append_telemetry("started", {"attempt": 1})
        folders.append(str(folder.path.relative_to(runs)))
    manifest = ArrayManifest(
        array_id=new_array_id(),
        title="adamw.criteo",
        cluster=SlurmCluster(),
        runs_root=str(runs),
        snapshot=str(runs),
        submission_folder=None,
        trial_folders=tuple(folders),
        time_limit_min=10,
        num_put_back=num_put_back,
    )
    manifest.write()
    (manifest.folder / "17_submitted.pkl").touch()
    return manifest


def lost(runs: Path, jobs: dict[Path, JobOfTrial] | None = None) -> list[int]:
    return [one.index for one in lost_elements(runs, jobs or {})]


def remembered(manifest: ArrayManifest, state: str) -> list[QueuedJob]:
    return [QueuedJob("17", "17", 0, state, "", "n1", manifest.job_name)]


@pytest.mark.parametrize(
    ("state", "is_lost"), [("failed", True), ("node_fail", True), ("completed", True), ("cancelled", False)]
)
def test_a_trial_whose_job_slurm_ended_is_lost_and_a_cancelled_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, *, is_lost: bool
) -> None:
    manifest = submitted(tmp_path)
    monkeypatch.setattr(controller, "remembered_jobs", lambda: remembered(manifest, state))

    assert lost(tmp_path) == ([0] if is_lost else [])


def test_accounts_tell_what_slurm_has_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(tmp_path)
    monkeypatch.setattr(controller, "accounted_states", lambda ids: dict.fromkeys(ids, "cancelled by 1000"))

    assert lost(tmp_path) == []


@pytest.mark.parametrize(
    ("log", "is_lost"),
    [("", True), (REQUEUED, True), (CANCELLED, False), (REQUEUED + CANCELLED, False), (CANCELLED + REQUEUED, True)],
)
def test_without_any_account_the_job_s_log_tells(tmp_path: Path, log: str, *, is_lost: bool) -> None:
    manifest = submitted(tmp_path)
    (manifest.folder / "17_0_log.out").write_text(log)

    assert lost(tmp_path) == ([0] if is_lost else [])


def finish(folder: TrialFolder) -> None:
    folder.write_result(result_of(folder.trial(), []))


def damage(folder: TrialFolder) -> None:
    (folder.path / "result.json").write_text("{")


def remove(folder: TrialFolder) -> None:
    (folder.path / "run.json").unlink()


@pytest.mark.parametrize("change", [finish, damage, remove])
def test_only_what_has_no_result_and_can_be_read_is_lost(tmp_path: Path, change: Callable[[TrialFolder], None]) -> None:
    manifest = submitted(tmp_path, num_trials=2)

    change(TrialFolder(manifest.trial_path(0)))

    assert lost(tmp_path) == [1]


def test_what_somebody_takes_care_of_is_not_lost(tmp_path: Path) -> None:
    manifest = submitted(tmp_path, num_trials=3)
    queued = {manifest.trial_path(0): JobOfTrial(job_id="18_0", is_running=False, reason="Priority")}

    with TrialFolder(manifest.trial_path(1)).locked():
        assert lost(tmp_path, queued) == [2]


def test_what_was_never_started_and_nobody_remembers_may_have_been_cancelled(tmp_path: Path) -> None:
    manifest = submitted(tmp_path)
    (manifest.trial_path(0) / "telemetry.jsonl").unlink()

    assert lost(tmp_path) == []


def test_what_a_person_cancelled_by_our_command_stays_cancelled(tmp_path: Path) -> None:
    submitted(tmp_path).note_cancelled()

    assert lost(tmp_path) == []


@pytest.mark.parametrize(("times", "is_lost"), [(MOST_TIMES - 1, True), (MOST_TIMES, False)])
def test_a_trial_is_put_back_so_often_and_not_for_ever(tmp_path: Path, times: int, *, is_lost: bool) -> None:
    submitted(tmp_path, num_put_back=times)

    assert lost(tmp_path) == ([0] if is_lost else [])


def test_the_latest_submission_of_a_trial_counts(tmp_path: Path) -> None:
    submitted(tmp_path).note_cancelled()
    time.sleep(0.01)
    submitted(tmp_path)

    assert lost(tmp_path) == [0]


def test_two_that_submit_from_one_folder_do_it_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfbench.errors import LaunchError
    from perfbench.launch.slurm import manifest

    monkeypatch.setattr(manifest, "_PATIENCE_S", 0.0)
    with submitting(tmp_path), pytest.raises(LaunchError, match="another process has been submitting"):  # noqa: SIM117
        with submitting(tmp_path):
            pass


# --- what the end of a step means ---------------------------------------------------------------------------------


def attempt(runs: Path) -> Attempt:
    manifest = submitted(runs)
    folder = TrialFolder(manifest.trial_path(0))
    return Attempt(
        manifest=manifest, folder=folder, lease=Lease(folder.path, "17.0"), job_id="17", number=1, step_number=0
    )


def concluded(of: Attempt, end: StepEnd, monkeypatch: pytest.MonkeyPatch, *, is_ending: bool = False) -> str:
    """Return why the attempt failed, or what happens to its job."""
    requeued: list[str] = []
    monkeypatch.setattr(controller, "may_run", lambda _: True)
    monkeypatch.setattr(element, "_requeue", requeued.append)
    failure = element._conclude(of, end, is_ending=is_ending, before_requeue=lambda: None)
    return "requeued" if requeued else "" if failure is None else failure.message


def test_a_step_that_never_began_is_a_failure_in_srun_s_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """srun ends with 0 where it could not open a rank's output: a job that requeued itself did so for ever."""
    end = StepEnd(0, "slurmstepd-n1: error: Could not open stdout file /x/rank_0.log: No such file or directory\n")

    said = concluded(attempt(tmp_path), end, monkeypatch)

    assert said == (
        "srun ended with exit code 0 and no result: Could not open stdout file /x/rank_0.log: No such file or directory"
    )


def test_srun_s_own_refusal_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = StepEnd(
        1, "srun: fatal: SLURM_MEM_PER_CPU, SLURM_MEM_PER_GPU, and SLURM_MEM_PER_NODE are mutually exclusive.\n"
    )

    assert concluded(attempt(tmp_path), end, monkeypatch).endswith("SLURM_MEM_PER_NODE are mutually exclusive.")


@pytest.mark.parametrize(
    ("silent_s", "words", "outcome"),
    [
        (0, "srun: Job 17 step creation still disabled, retrying (Requested nodes are busy)", "requeued"),
        (1, "srun: Job 17 step creation temporarily disabled, retrying (Requested nodes are busy)", "requeued"),
        (0, "srun: Job 17 step creation still disabled, retrying (busy)\nsrun: Step created for StepId=17.1", ""),
    ],
)
def test_a_step_that_never_gets_its_nodes_gives_its_job_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_s: int, words: str, outcome: str
) -> None:
    """A node that came back while its job was requeued is busy with the step before, and srun would wait for ever."""
    srun = tmp_path / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(f"#!/bin/sh\nsleep {silent_s}\necho '{words}' >&2\nexec sleep {60 if outcome else 1}\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=os.pathsep)
    monkeypatch.setattr(step, "_CREATION_S", 0.2)
    of = attempt(tmp_path / "runs")

    end = step.run_step(of, lambda: False)

    assert end.overdue is (outcome == "requeued")
    assert concluded(of, end, monkeypatch).startswith(outcome or "srun ended with exit code 0 and no result")


def test_ranks_that_were_told_to_stop_go_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = attempt(tmp_path / "told")
    stopped_as_told(told.folder, 1)

    assert concluded(told, StepEnd(0, ""), monkeypatch) == "requeued"
    assert concluded(attempt(tmp_path / "ending"), StepEnd(143, ""), monkeypatch, is_ending=True) == "requeued"


@pytest.mark.parametrize(
    ("reason", "phase", "is_tried_again"),
    [
        (FailureReason.NODE, "preparing", True),
        (FailureReason.ENGINE, "compiling", True),
        (FailureReason.ENGINE, "training", False),
        (FailureReason.SUBMISSION, "preparing", False),
        (FailureReason.DATA, "preparing", False),
    ],
)
def test_what_fails_before_it_trains_may_pass_the_next_time(
    tmp_path: Path, reason: FailureReason, phase: str, *, is_tried_again: bool
) -> None:
    folder = attempt(tmp_path).folder
    folder.append_telemetry("pulse", {"phase": phase, "at_step": 0, "submission_time_s": 0.0})

    assert failed_at_start(folder, failure_seen(1, reason, "what it was")) is is_tried_again


@pytest.mark.parametrize("num_bad_starts", [1, 9])
def test_a_job_starts_its_ranks_again_and_gives_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_bad_starts: int
) -> None:
    of = attempt(tmp_path)
    steps: list[int] = []

    def run_step(attempt: Attempt, _must_end: Callable[[], bool]) -> StepEnd:
        steps.append(attempt.step_number)
        if len(steps) > num_bad_starts:
            attempt.folder.write_result(result_of(attempt.folder.trial(), []))
        return StepEnd(1, "srun: error: n1: launch failed\n")

    monkeypatch.setattr(element, "run_step", run_step)
    monkeypatch.setattr(element, "_PAUSE_S", 0.0)
    monkeypatch.setattr(controller, "may_run", lambda _: True)

    element._run_attempts(of.manifest, of.folder, of.lease, lambda: False, "17")

    result = of.folder.result()
    assert result is not None
    assert steps == list(range(min(num_bad_starts, 2) + 1))
    if num_bad_starts == 9:
        assert isinstance(result.outcome, Crashed)
        assert "n1: launch failed" in result.outcome.message
    assert NoTracking() == of.manifest.tracking
