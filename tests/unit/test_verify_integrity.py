"""What an edit of a trial's records shows, and what work off the clock does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perfbench.results.reader import read_trials
from perfbench.results.trials import RecordedTrial
from perfbench.scoring.verify_integrity import (
    folder_holds_code,
    isolation_is_known,
    nothing_was_switched,
    pulses_agree,
    records_are_chained,
    rest_was_kept,
)
from perfbench.spec.environment import Isolation
from tests.tiny_trials import StopAt, run
from tests.trial_folders import environment


def recorded(tmp_path: Path) -> RecordedTrial:
    (trial,) = read_trials([tmp_path]).trials
    return trial


def finished(tmp_path: Path) -> Path:
    run(tmp_path, stop=StopAt(7))
    _, folder = run(tmp_path, attempt=2)
    return folder.path


def without_a_line(lines: list[str]) -> list[str]:
    return lines[:1] + lines[2:]


def with_a_better_metric(lines: list[str]) -> list[str]:
    record = json.loads(lines[0])
    record["metrics"]["validation/loss"] = 0.01
    return [json.dumps(record, separators=(",", ":")), *lines[1:]]


def without_the_last(lines: list[str]) -> list[str]:
    return lines[:-1]


def with_one_more(lines: list[str]) -> list[str]:
    record = json.loads(lines[-1]) | {"step": 10_000}
    return [*lines, json.dumps(record, separators=(",", ":"))]


def test_records_of_an_interrupted_trial_are_one_chain(tmp_path: Path) -> None:
    finished(tmp_path)

    assert list(records_are_chained(recorded(tmp_path))) == []


@pytest.mark.slow
@pytest.mark.parametrize("edit", [without_a_line, with_a_better_metric, without_the_last, with_one_more])
def test_an_edit_of_the_records_breaks_the_chain(tmp_path: Path, edit: Callable[[list[str]], list[str]]) -> None:
    path = finished(tmp_path) / "measurements.jsonl"
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")

    (finding,) = records_are_chained(recorded(tmp_path))

    assert finding.check == "chain"


def test_pulses_of_an_interrupted_trial_agree_with_its_measurements(tmp_path: Path) -> None:
    finished(tmp_path)

    assert list(pulses_agree(recorded(tmp_path))) == []


def test_measurements_that_somebody_sped_up_disagree_with_the_pulses(tmp_path: Path) -> None:
    finished(tmp_path)
    trial = recorded(tmp_path)
    faster = [one.model_copy(update={"submission_time_s": one.submission_time_s + 1.0}) for one in trial.measurements]
    slower_pulses = replace(trial, records=tuple(faster))

    found = [str(finding) for finding in pulses_agree(slower_pulses)]
    (trial.path / "telemetry.jsonl").unlink()
    bare = [finding.what for finding in pulses_agree(trial)]

    assert "a pulse says step" in found[0]
    assert bare == ["attempt 1 left no pulse in telemetry.jsonl", "attempt 2 left no pulse in telemetry.jsonl"]


def test_what_attests_itself_or_worked_at_rest_is_named(tmp_path: Path) -> None:
    finished(tmp_path)
    trial = recorded(tmp_path)
    assert trial.result is not None
    facts = environment()
    alone = replace(trial, environment=facts.model_copy(update={"isolation": Isolation.NONE}))
    charged = replace(trial, result=trial.result.model_copy(update={"charged_s": 3.0}))
    busy = replace(
        trial,
        environment=facts,
        result=trial.result.model_copy(update={"num_processors": facts.threads_per_rank + 2.0}),
    )
    heavy = replace(trial, environment=facts.model_copy(update={"submission_data_bytes": 3_000_000}))

    assert [finding.what for finding in isolation_is_known(alone)] == [
        "referee and trainer were one process: nothing is attested"
    ]
    assert [finding.check for finding in rest_was_kept(charged)] == ["rest"]
    assert any("processors busy" in finding.what for finding in nothing_was_switched(busy))
    assert list(rest_was_kept(trial)) == []
    assert [finding.what for finding in folder_holds_code(heavy)] == [
        "the submission brings 3.0 MB of data, in its folder or beside it: review it"
    ]
