"""What the launcher of this machine makes of ranks that end: ranks are shell scripts here."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from perfbench.errors import SubmissionError, TrialFailedError, TrialInterruptedError
from perfbench.launch import debug, local
from perfbench.launch.ending import STOPPED, failure_seen
from perfbench.launch.refereeing import Office
from perfbench.launch.slurm import rank
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, FailureReason
from perfbench.spec.run import LocalCluster
from tests.trial_folders import trial_spec

STOPS = f"exit {STOPPED}"


def run_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *scripts: str) -> TrialFolder:
    """Run a trial whose ranks do what the scripts say, one each; return its folder if it raises nothing."""
    program = tmp_path / "a rank"
    cases = "".join(f"{number}) {script};;\n" for number, script in enumerate(scripts))
    program.write_text(f"#!/bin/sh\ncase $RANK in\n{cases}esac\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    trial = trial_spec({"num_ranks": len(scripts)})
    folder = TrialFolder.of(tmp_path, trial)
    local.run_trial(trial, folder, lambda: None, LocalCluster(hang_timeout_s=60.0))
    return folder


def the_folder(tmp_path: Path) -> TrialFolder:
    return TrialFolder.of(tmp_path, trial_spec())


def test_a_rank_that_cannot_begin_has_crashed_and_was_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own exit code is 1 where a module cannot be imported."""
    with pytest.raises(TrialFailedError, match=r"crashed on rank 0 \(engine\): ended by exit code 1") as failed:
        run_ranks(tmp_path, monkeypatch, "exit 1")

    assert not isinstance(failed.value, TrialInterruptedError)
    result = the_folder(tmp_path).result()
    assert result is not None
    assert isinstance(result.outcome, Crashed)


@pytest.mark.parametrize(("name", "reason"), [("KILL", "node"), ("BUS", "engine"), ("SEGV", "engine")])
def test_a_signal_that_a_rank_brings_upon_itself_is_no_lost_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    """Of memory that is not there any more, for one: what was lost is not given back."""
    monkeypatch.setattr(local, "_PAUSE_S", 0.0)

    with pytest.raises(TrialFailedError, match=rf"crashed on rank 0 \({reason}\)"):
        run_ranks(tmp_path, monkeypatch, f"kill -{name} $$")


def test_a_start_that_fails_by_chance_is_made_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_PAUSE_S", 0.0)
    tries = tmp_path / "tries"

    with pytest.raises(TrialFailedError, match=r"crashed on rank 0 \(engine\)"):
        run_ranks(tmp_path, monkeypatch, f"echo >> {tries}; exit 3")
    assert len(tries.read_text()) == 2

    folder = the_folder(tmp_path)
    with pytest.raises(TrialFailedError, match="crashed on rank 0"):
        run_ranks(tmp_path, monkeypatch, f"echo >> {tries}; echo '{pulse()}' >> {folder.path}/telemetry.jsonl; exit 3")
    assert len(tries.read_text()) == 3


def pulse() -> str:
    return json.dumps({"kind": "pulse", "phase": "training", "submission_time_s": 2.0})


def test_a_trial_is_not_started_for_ever(tmp_path: Path) -> None:
    trial, folder = trial_spec(), the_folder(tmp_path)
    for attempt in (1, 2):
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.append_telemetry("started", {"attempt": attempt})

    with pytest.raises(TrialFailedError, match=r"2 attempts have brought no result \(cluster.max_attempts\)"):
        local.run_trial(trial, folder, lambda: None, LocalCluster(max_attempts=2))


def test_ranks_that_have_saved_as_asked_are_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long one of them takes to leave."""
    monkeypatch.setattr(local, "_GRACE_S", 0.1)

    with pytest.raises(TrialInterruptedError, match="interrupted; everything up to the last step is saved"):
        run_ranks(tmp_path, monkeypatch, STOPS, f"sleep 0.6; {STOPS}")

    assert the_folder(tmp_path).result() is None


def test_a_killed_rank_is_the_cause_and_lost_connections_are_its_echo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = failure_seen(1, FailureReason.NODE, "Connection closed by peer", rank=0)
    told = tmp_path / "told"
    told.write_text(echo.to_json())
    says_so = f'sleep 0.5; cp "{told}" "{the_folder(tmp_path).path}/failure_rank_0.json"; exit 1'

    with pytest.raises(TrialFailedError, match=r"crashed on rank 1 \(node\): killed \(SIGKILL\)"):
        run_ranks(tmp_path, monkeypatch, says_so, "kill -9 $$")


def test_ranks_that_wait_for_one_that_failed_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first rank is the one that waits."""
    monkeypatch.setattr(local, "_GRACE_S", 0.2)
    started_s = time.monotonic()

    with pytest.raises(TrialFailedError, match=r"crashed on rank 1 \(engine\): ended by exit code 3"):
        run_ranks(tmp_path, monkeypatch, "exec sleep 30", "exit 3")

    assert time.monotonic() - started_s < 15


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_before_ranks_listen_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    timer = threading.Timer(0.5, os.kill, (os.getpid(), number))
    timer.start()

    with pytest.raises(TrialInterruptedError):
        run_ranks(tmp_path, monkeypatch, "exec sleep 30")

    timer.join()
    assert the_folder(tmp_path).result() is None


def test_a_second_interrupt_kills_ranks_that_do_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = tmp_path / "listening"

    def interrupt_twice() -> None:
        while not listening.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    impatient = threading.Thread(target=interrupt_twice)
    impatient.start()
    started_s = time.monotonic()
    with pytest.raises(TrialInterruptedError):
        run_ranks(tmp_path, monkeypatch, f"trap '' TERM; touch '{listening}'; while :; do sleep 0.1; done")

    impatient.join()
    assert time.monotonic() - started_s < 60
    assert the_folder(tmp_path).result() is None


def test_under_srun_a_rank_that_has_saved_is_no_reason_to_kill_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was told to stop: this one, or another one that told the others."""
    for name, value in {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(rank, "StopRequest", lambda: lambda: False)
    monkeypatch.setattr(rank, "run_rank", lambda *_, **__: STOPPED)
    options = ["--attempt", "1", "--holder", "7.0", "--hang-timeout-s", "9"]
    monkeypatch.setattr(sys, "argv", ["rank", str(tmp_path), *options])

    assert rank.main() == 0


def test_a_crash_while_debugging_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: object, **_: object) -> None:
        raise SubmissionError("a mistake")

    monkeypatch.setattr(debug, "StopRequest", lambda: lambda: False)
    monkeypatch.setattr(debug, "build_workload", lambda *_: None)
    monkeypatch.setattr(Office, "write_environment", lambda *_, **__: None)
    monkeypatch.setattr(debug.BothSides, "run", fail)

    with pytest.raises(TrialFailedError, match=r"crashed on rank 0 \(submission\): a mistake"):
        debug.run_here(trial_spec(), the_folder(tmp_path))

    result = the_folder(tmp_path).result()
    assert result is not None
    assert isinstance(result.outcome, Crashed)


def test_ranks_inherit_no_switch_that_nobody_has_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what another launcher or scheduler has left."""
    for name in ("TORCHDYNAMO_DISABLE", "NVIDIA_TF32_OVERRIDE", "MKL_NUM_THREADS", "MASTER_PORT", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("RANK", "2")
    seen = tmp_path / "seen"

    with pytest.raises(TrialInterruptedError):
        run_ranks(tmp_path, monkeypatch, f'env > "{seen}"; {STOPS}')

    lines = seen.read_text().splitlines()
    assert "RANK=0" in lines
    assert [line for line in lines if line.endswith("=7")] == []
