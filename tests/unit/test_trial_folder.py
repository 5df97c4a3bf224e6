"""A trial folder whose writer was killed, or whose disk was full: what is torn costs its own line and nothing else."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from perfbench.errors import LaunchError, ResultsError
from perfbench.launch.ending import crash_result, failure_seen
from perfbench.results.history import history_of
from perfbench.results.store import TrialFolder
from perfbench.spec.result import FailureReason, Resumed
from perfbench.spec.run import TrialSpec
from tests.trial_folders import measurement, trial_spec, write_trial


def torn_and_continued(runs: Path) -> TrialFolder:
    """Return a folder whose first attempt was killed within a line of each file; the second one closed both."""
    records = [measurement(step=10, time_s=10.0, loss=1.0), measurement(step=20, time_s=20.0, loss=0.9)]
    folder = write_trial(runs, trial_spec(), records, is_finished=False)
    folder.append_telemetry("started", {"attempt": 1})
    folder.append_telemetry("pulse", {"submission_time_s": 24.0})
    folder.append_telemetry("pulse", {"submission_time_s": 24.5})
    for name in ("measurements.jsonl", "telemetry.jsonl"):
        path = folder.path / name
        path.write_bytes(path.read_bytes()[:-9])
    folder.append_telemetry("started", {"attempt": 2})
    utc = "2026-01-01T00:00:00Z"
    folder.append(Resumed(attempt=2, from_step=10, submission_time_s=10.0, lost_s=14.0, wall_time_utc=utc))
    return folder


def test_a_trial_goes_on_after_a_torn_line_was_closed(tmp_path: Path) -> None:
    folder = torn_and_continued(tmp_path)

    assert folder.num_attempts() == 2
    assert [one.step for one in folder.measurements()] == [10]
    assert history_of(folder).lost_s == 14.0


def test_a_crash_after_a_torn_line_gets_its_result(tmp_path: Path) -> None:
    folder = torn_and_continued(tmp_path)

    result = crash_result(folder, failure_seen(2, FailureReason.NODE, "killed"), 2)

    assert (result.num_measurements, result.lost_s) == (1, 14.0)


def test_a_torn_start_is_no_attempt(tmp_path: Path) -> None:
    folder = write_trial(tmp_path, trial_spec(), [], is_finished=False)
    (folder.path / "telemetry.jsonl").write_text('{"kind": "started", "att')
    folder.append_telemetry("started", {"attempt": 1})

    assert folder.num_attempts() == 1
    assert history_of(folder).reached_s == 0.0


def test_what_is_told_cannot_pass_for_a_line_of_another_kind(tmp_path: Path) -> None:
    folder = write_trial(tmp_path, trial_spec(), [], is_finished=False)
    folder.append_telemetry("trace", {"kind": "started", "attempt": "9"})

    assert folder.num_attempts() == 0
    assert [line["attempt"] for line in folder.telemetry("trace")] == ["9"]


def test_a_record_that_the_disk_cannot_take_whole_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_trial(tmp_path, trial_spec(), [], is_finished=False)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:20]))

    with pytest.raises(OSError, match="only 20 of") as full:
        folder.append(measurement(step=10, time_s=10.0, loss=1.0))

    assert full.value.errno == errno.ENOSPC


def test_one_of_many_configurations_that_claim_at_once_gets_the_folder(tmp_path: Path) -> None:
    num_claims, num_rounds = 6, 10
    specs = [trial_spec({"run_seed": seed}) for seed in range(num_claims)]
    with ThreadPoolExecutor(num_claims) as threads:
        for number in range(num_rounds):
            start = Barrier(num_claims)

            def claim(spec: TrialSpec, start: Barrier = start, runs: Path = tmp_path / str(number)) -> bool:
                start.wait()
                try:
                    return TrialFolder.of(runs, spec).claim(spec)
                except ResultsError:
                    return False

            made = list(threads.map(claim, specs))
            assert made.count(True) == 1
            folder = TrialFolder.of(tmp_path / str(number), specs[0])
            assert folder.trial() == specs[made.index(True)]


def never_began(runs: Path) -> TrialFolder:
    """Return a folder whose only attempt failed before there was anything to run."""
    folder = write_trial(runs, trial_spec(), [], is_finished=False)
    folder.write_failure(failure_seen(1, FailureReason.SUBMISSION, "a typing error"))
    return folder


def test_a_request_that_was_mended_gets_the_folder_and_no_third_one(tmp_path: Path) -> None:
    folder = never_began(tmp_path)

    folder.claim(trial_spec({"run_seed": 1}))

    assert folder.trial().run_seed == 1
    with pytest.raises(ResultsError, match="another configuration"):
        folder.claim(trial_spec({"run_seed": 2}))


def test_a_folder_in_use_is_not_taken_over(tmp_path: Path) -> None:
    folder = never_began(tmp_path)

    with folder.locked(), pytest.raises(LaunchError, match="another process is running this trial now"):
        folder.claim(trial_spec({"run_seed": 1}))

    assert folder.trial().run_seed == 0


def test_a_claim_is_given_up_only_while_nothing_has_begun(tmp_path: Path) -> None:
    begun, idle = (write_trial(tmp_path / name, trial_spec(), [], is_finished=False) for name in ("begun", "idle"))
    begun.append_telemetry("started", {"attempt": 1})

    begun.give_up()
    idle.give_up()

    assert begun.trial() == trial_spec()
    assert not idle.path.exists()
