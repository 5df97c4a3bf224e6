from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from perfbench.errors import ResultsError
from perfbench.results.benchmark import BenchmarkWorkload
from perfbench.results.reader import read_trials
from perfbench.results.store import Failure, TrialFolder
from perfbench.scoring.target import trial_end
from perfbench.scoring.verify import seeds_differ, verify_trials
from perfbench.spec.records import counted_measurements
from perfbench.spec.result import FailureReason, Measurement, Resumed
from tests.trial_folders import measurement, trial_spec, write_reaching_trial, write_trial


def _resumed(*, attempt: int, from_step: int) -> Resumed:
    return Resumed(attempt=attempt, from_step=from_step, submission_time_s=1.0, wall_time_utc="2026-01-01T00:00:00Z")


def test_every_trial_below_a_path_is_read_with_its_name(tmp_path: Path) -> None:
    for study in range(2):
        for trial in (1, 2):
            write_reaching_trial(tmp_path, time_s=10.0, study=study, trial=trial)

    reading = read_trials([tmp_path])

    assert [(one.key.study, one.key.trial) for one in reading.trials] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert reading.complaints == []
    assert reading.trials[0].result is not None


def test_a_trial_folder_or_a_file_in_it_can_be_given_itself(tmp_path: Path) -> None:
    folder = write_reaching_trial(tmp_path, time_s=10.0).path

    assert len(read_trials([folder]).trials) == 1
    assert len(read_trials([folder / "run.json"]).trials) == 1


def test_a_missing_path_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nowhere: there is no such file or folder"):
        read_trials([tmp_path / "nowhere"])


def test_a_resume_voids_what_earlier_attempts_measured_after_its_step(tmp_path: Path) -> None:
    records: list[Measurement | Resumed] = [
        measurement(step=10, time_s=1.0, loss=0.9),
        measurement(step=20, time_s=2.0, loss=0.4),
        _resumed(attempt=2, from_step=10),
        measurement(step=20, time_s=2.5, loss=0.6, attempt=2),
    ]
    write_trial(tmp_path, trial_spec(), records, is_finished=False)

    [trial] = read_trials([tmp_path]).trials

    assert [(one.step, one.submission_time_s) for one in trial.measurements] == [(10, 1.0), (20, 2.5)]


def test_a_step_measured_again_by_a_later_attempt_counts_as_it_was_measured_first(tmp_path: Path) -> None:
    records: list[Measurement | Resumed] = [
        measurement(step=10, time_s=1.0, loss=0.9),
        _resumed(attempt=2, from_step=10),
        measurement(step=10, time_s=1.5, loss=0.8, attempt=2),
    ]
    write_trial(tmp_path, trial_spec(), records, is_finished=False)

    reading = read_trials([tmp_path])

    assert [one.attempt for one in reading.trials[0].measurements] == [1]
    assert reading.complaints == []


def test_run_reader_and_score_agree_on_a_step_that_was_measured_twice(tmp_path: Path) -> None:
    """As a submission that completes right after an evaluation once left it: the second one reached the target."""
    records: list[Measurement | Resumed] = [
        measurement(step=20, time_s=10.0, loss=0.9),
        measurement(step=20, time_s=10.5, loss=0.1),
    ]
    folder = write_trial(tmp_path, trial_spec(), records)

    (trial,) = read_trials([tmp_path]).trials

    assert folder.measurements() == list(trial.measurements)
    assert counted_measurements(records) == records[:1]
    assert [one.submission_time_s for one in trial.measurements] == [10.0]
    rules = BenchmarkWorkload(target=trial.spec.target, max_submission_time_s=100.0)
    assert trial_end(trial.log(), rules).time_s == math.inf
    (finding,) = [one for one in verify_trials([trial]) if "target at" in one.what]
    assert "result.json says target at 10.5 s, the measurements say inf s" in finding.what


def test_a_resume_voids_what_came_after_the_step_it_goes_on_from() -> None:
    records: list[Measurement | Resumed] = [
        measurement(step=10, time_s=1.0, loss=0.9),
        measurement(step=20, time_s=2.0, loss=0.8),
        _resumed(attempt=2, from_step=10),
    ]
    again = measurement(step=20, time_s=2.1, loss=0.7, attempt=2)

    assert counted_measurements(records) == records[:1]
    assert counted_measurements([*records, again]) == [records[0], again]


def test_a_step_measured_twice_in_one_attempt_is_a_complaint_and_the_first_counts(tmp_path: Path) -> None:
    records = [measurement(step=10, time_s=1.0, loss=0.9), measurement(step=10, time_s=2.0, loss=0.1)]
    write_trial(tmp_path, trial_spec(), records, is_finished=False)

    reading = read_trials([tmp_path])

    assert [one.submission_time_s for one in reading.trials[0].measurements] == [1.0]
    assert "step 10 was measured twice" in reading.complaints[0].what


def test_a_torn_last_line_is_left_out_without_harm(tmp_path: Path) -> None:
    folder = write_reaching_trial(tmp_path, time_s=10.0).path
    with (folder / "measurements.jsonl").open("a") as file:
        file.write('{"kind": "measurement", "att')

    reading = read_trials([tmp_path])

    assert len(reading.trials[0].measurements) == 2
    assert [complaint.is_harmless for complaint in reading.complaints] == [True]
    assert str(folder / "measurements.jsonl") in str(reading.complaints[0])


def test_a_torn_line_closed_by_the_next_attempt_is_left_out_without_harm(tmp_path: Path) -> None:
    folder = write_trial(tmp_path, trial_spec(), [measurement(step=10, time_s=1.0, loss=0.9)], is_finished=False)
    with (folder.path / "measurements.jsonl").open("a") as file:
        file.write('{"kind": "measurement", "att')
    folder.append(_resumed(attempt=2, from_step=10))

    reading = read_trials([tmp_path])

    assert [complaint.is_harmless for complaint in reading.complaints] == [True]
    assert "line 2 was torn" in reading.complaints[0].what


def test_a_damaged_line_is_named_and_the_other_lines_count(tmp_path: Path) -> None:
    folder = write_reaching_trial(tmp_path, time_s=10.0).path
    path = folder / "measurements.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"step":20', '"step":"20"'), lines[1]]) + "\n")

    reading = read_trials([tmp_path])

    assert [one.step for one in reading.trials[0].measurements] == [10, 20]
    assert "line 2 is not a record" in reading.complaints[0].what
    assert "step" in reading.complaints[0].what
    assert not reading.complaints[0].is_harmless


def test_a_broken_trial_is_named_and_hides_no_other(tmp_path: Path) -> None:
    broken = write_reaching_trial(tmp_path, time_s=10.0, trial=1).path
    write_reaching_trial(tmp_path, time_s=10.0, trial=2)
    plain = json.loads((broken / "run.json").read_text())
    (broken / "run.json").write_text(json.dumps(plain | {"surprise": 1}))

    reading = read_trials([tmp_path])

    assert [trial.key.trial for trial in reading.trials] == [2]
    [complaint] = reading.complaints
    assert complaint.path == broken / "run.json"
    assert "surprise" in complaint.what


def test_measurements_without_run_json_are_a_complaint(tmp_path: Path) -> None:
    folder = write_reaching_trial(tmp_path, time_s=10.0).path
    (folder / "run.json").unlink()

    reading = read_trials([tmp_path])

    assert reading.trials == []
    assert "without run.json" in reading.complaints[0].what


def test_a_copy_of_a_trial_is_left_out_and_named(tmp_path: Path) -> None:
    write_reaching_trial(tmp_path / "a", time_s=10.0)
    write_reaching_trial(tmp_path / "b", time_s=1.0)

    reading = read_trials([tmp_path])

    assert [trial.measurements[-1].submission_time_s for trial in reading.trials] == [10.0]
    assert "is also in" in reading.complaints[0].what


def test_a_trial_with_another_kind_of_target_is_no_copy(tmp_path: Path) -> None:
    scale = trial_spec().scale.model_dump(mode="json")
    write_reaching_trial(tmp_path / "a", time_s=10.0)
    write_reaching_trial(tmp_path / "b", time_s=1.0, scale=scale | {"target": "smoke"})

    reading = read_trials([tmp_path])

    assert [trial.spec.scale.target for trial in reading.trials] == ["scored", "smoke"]
    assert not reading.complaints
    assert not list(seeds_differ(reading.trials))


def test_links_are_followed_and_loops_and_overlapping_paths_end(tmp_path: Path) -> None:
    write_reaching_trial(tmp_path / "real", time_s=10.0)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "runs").symlink_to(tmp_path / "real")
    (linked / "loop").symlink_to(linked)
    (linked / "self").symlink_to(linked / "self")

    reading = read_trials([linked, linked / "runs", tmp_path])

    assert len(reading.trials) == 1
    assert reading.complaints == []


def test_a_step_too_large_to_count_is_a_complaint_not_a_crash(tmp_path: Path) -> None:
    folder = write_reaching_trial(tmp_path, time_s=10.0).path
    path = folder / "measurements.jsonl"
    path.write_text(path.read_text().replace('"step":20', f'"step":{10**40}'))

    reading = read_trials([tmp_path])

    assert len(reading.trials[0].log()) == 1
    assert "no count of steps" in reading.complaints[0].what


def test_a_folder_whose_trial_failed_before_it_began_is_free_for_a_mended_request(tmp_path: Path) -> None:
    misspelt, mended = trial_spec({"global_batch_size": 64}), trial_spec({"global_batch_size": 128})
    folder = TrialFolder.of(tmp_path, misspelt)
    folder.claim(misspelt)
    with pytest.raises(ResultsError, match="another configuration"):
        folder.claim(mended)  # it may be about to start, or wait in a queue

    folder.write_failure(
        Failure(
            attempt=1,
            rank=0,
            reason=FailureReason.SUBMISSION,
            error_type="SubmissionError",
            message="unknown field",
            exit_code=2,
            traceback="",
        )
    )
    folder.check_belongs(mended)
    folder.claim(mended)

    assert folder.trial() == mended
    (folder.path / "environment.json").write_text("{}")  # the first thing on record of what runs
    with pytest.raises(ResultsError, match="global_batch_size: 128 -> 64"):
        folder.claim(misspelt)
