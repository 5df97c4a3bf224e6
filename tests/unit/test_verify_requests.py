"""Trials that are compared were asked for alike, and each is a trial of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from perfbench.cli.verify import _other_than_shipped
from perfbench.compose import compose_workload
from perfbench.results.reader import read_trials
from perfbench.results.trials import RecordedTrial
from perfbench.scoring.verify_requests import little_was_lost, metrics_differ, requests_agree, result_is_there
from perfbench.spec.workload import TargetKind
from tests.trial_folders import environment, write_reaching_trial


def trials(tmp_path: Path) -> list[RecordedTrial]:
    for study in range(3):
        write_reaching_trial(tmp_path, time_s=10.0, study=study)
    return read_trials([tmp_path]).trials


def with_spec(trial: RecordedTrial, **changes: object) -> RecordedTrial:
    return replace(trial, spec=trial.spec.model_copy(update=changes))


def test_what_was_asked_for_otherwise_is_named(tmp_path: Path) -> None:
    first, second, third = trials(tmp_path)
    other_batch = with_spec(third, global_batch_size=4 * third.spec.global_batch_size)
    other_budget = with_spec(third, max_submission_time_s=7.0)
    other_seed = with_spec(third, run_seed=third.spec.run_seed + 1)

    assert list(requests_agree([first, second, third])) == []
    for odd, name in ((other_batch, "batch size"), (other_budget, "budget"), (other_seed, "run seed")):
        (finding,) = requests_agree([first, second, odd])
        assert (finding.check, finding.path) == ("request", third.path)
        assert finding.what.startswith(f"{name} ")


def test_an_easier_workload_than_ours_is_named(tmp_path: Path) -> None:
    """Also where every trial of a board has it."""
    ours = compose_workload("mnist", scale="mini")
    smoke = ours.targets[TargetKind.SMOKE]
    easier = smoke.model_copy(update={"threshold": 0.5})
    trial = trials(tmp_path)[0]
    scale = trial.spec.scale.model_copy(update={"target": TargetKind.SMOKE})
    alike = with_spec(trial, workload=ours, target=smoke, scale=scale)
    at_other_times = with_spec(alike, workload=ours.model_copy(update={"eval_period_s": 0.1}))
    with_other_targets = with_spec(
        alike, workload=ours.model_copy(update={"targets": {**ours.targets, TargetKind.SMOKE: easier}})
    )

    assert list(_other_than_shipped([trial, alike])) == []
    for odd, field in (
        (with_spec(alike, target=easier), "target"),
        (at_other_times, "eval_period_s"),
        (with_other_targets, "targets"),
    ):
        (finding,) = _other_than_shipped([odd])
        assert finding.what.startswith(f"{field} of mnist is not what")


def test_a_copy_of_a_trial_is_named(tmp_path: Path) -> None:
    first, second, third = trials(tmp_path)
    copy = replace(third, measurements=first.measurements)

    assert list(metrics_differ([first, second, third])) == []
    (finding,) = metrics_differ([first, second, copy])
    assert finding.what == f"every metric is equal to that of {first.path}, of another seed"


def test_one_evaluation_is_a_copy_if_its_digits_are_no_chance(tmp_path: Path) -> None:
    first, second, _ = trials(tmp_path)

    def only(loss: float) -> list[RecordedTrial]:
        measured = (first.measurements[0].model_copy(update={"metrics": {"validation/loss": loss}}),)
        return [replace(trial, measurements=measured) for trial in (first, second)]

    assert list(metrics_differ(only(0.1))) == []
    assert [finding.path for finding in metrics_differ(only(0.6831904125213623))] == [second.path]


def test_a_trial_without_an_end_or_with_more_loss_than_work_is_named(tmp_path: Path) -> None:
    trial = trials(tmp_path)[0]
    assert trial.result is not None
    lost = replace(trial, result=trial.result.model_copy(update={"lost_s": 11.0, "num_attempts": 9}))
    planned = replace(trial, result=None, records=(), measurements=())

    assert list(result_is_there(trial)) == list(little_was_lost(trial)) == list(result_is_there(planned)) == []
    assert [one.check for one in result_is_there(replace(trial, result=None))] == ["missing"]
    assert [one.check for one in result_is_there(replace(planned, environment=environment()))] == ["missing"]
    assert [one.what for one in little_was_lost(lost)] == [
        "11.0 s were lost in 9 attempts, more than the 10.0 s that count"
    ]
