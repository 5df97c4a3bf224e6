"""Hyperparameters on the command line: what they compose to, where such trials lie, and that no board counts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfbench.cli.exploring import sweep_trials
from perfbench.compose import compose_run
from perfbench.errors import ConfigError, PerfbenchError, RulesError
from perfbench.launch.plan import plan_study, plan_trial
from perfbench.launch.states import statuses
from perfbench.launch.sweep import read_trials_back
from perfbench.results.benchmark import split_by_setting
from perfbench.results.reader import read_trials
from perfbench.results.store import TrialFolder
from perfbench.scoring.verify import seeds_differ, trials_are_complete, verify_trials
from perfbench.spec.submission import Range, RangeSpace, Scaling
from perfbench.tuning import halton
from perfbench.tuning.exploring import expand, parse_range
from perfbench.tuning.sampler import map_point
from tests.trial_folders import measurement, write_trial

BASE = ["workload=mnist", "submission=adamw"]


def planned(*overrides: str) -> list[tuple[str | None, int, int]]:
    """Return name, trial and seed of each trial of a sweep."""
    return [(trial.explored, trial.trial, trial.run_seed) for trial in sweep_trials([*BASE, *overrides])[1]]


def test_a_value_lies_over_the_point_of_a_trial() -> None:
    third = plan_study(compose_run(BASE))[2]

    trial = plan_trial(compose_run([*BASE, "trial=3", "hp.learning_rate=3e-4", "hp.weight_decay=0"]))

    assert trial.hyperparameters == {**(third.hyperparameters or {}), "learning_rate": 3e-4, "weight_decay": 0.0}
    assert isinstance((trial.hyperparameters or {})["weight_decay"], float)
    assert trial.explored == "learning_rate=0.0003,weight_decay=0,trial=3"
    assert trial.trial_seed == third.trial_seed
    assert not trial.is_scorable()
    assert third.is_scorable()
    assert trial.label() == "adamw on mnist, explored learning_rate=0.0003,weight_decay=0,trial=3"


def test_it_lies_in_a_folder_of_its_own_and_is_found_there(tmp_path: Path) -> None:
    trial = plan_trial(compose_run([*BASE, "hp.learning_rate=3e-4"]))
    folder = TrialFolder.of(tmp_path, trial)
    folder.claim(trial)

    assert folder.path == tmp_path / "adamw" / "explored" / "mnist" / "learning_rate=0.0003"
    assert read_trials_back(tmp_path, [folder.path]) == [trial]
    assert [status.key.explored for status in statuses(tmp_path, {})] == ["learning_rate=0.0003"]


def test_the_identity_of_a_study_s_trial_is_what_it_was() -> None:
    trial = plan_trial(compose_run(BASE))

    assert trial.identity() == trial.digest(exclude={"data_root", "trace_steps", "explored", "deterministic"})
    assert trial.identity() != plan_trial(compose_run([*BASE, "explore=true"])).identity()


def test_explored_trials_are_on_no_board_and_miss_nothing(tmp_path: Path) -> None:
    for overrides in (BASE, [*BASE, "hp.learning_rate=3e-4"]):
        spec = plan_trial(compose_run(overrides))
        write_trial(tmp_path, spec, [measurement(step=1, time_s=1.0, loss=1.0)])
    trials = read_trials([tmp_path]).trials

    assert len(trials) == 2
    [board] = split_by_setting(trials).values()
    assert [trial.spec.explored for trial in board] == [None]
    assert list(seeds_differ(trials)) != []
    compared = {finding.check for finding in verify_trials(trials)}
    assert "seed" not in compared
    assert {str(finding) for finding in verify_trials(trials) if finding.check == "missing"} == {
        str(finding) for finding in trials_are_complete(board)
    }


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["trial=2,4"], [(None, 2, 0), (None, 4, 0)]),
        (["trial=3"], [(None, 3, 0)]),
        (["seed=1"], [(None, trial, 1) for trial in range(1, 6)]),
        (["seed=1,2", "trial=1"], [("seed=1", 1, 1), ("seed=2", 1, 2)]),
        (["seed=0,2", "trial=1,3"], [("trial=1", 1, 0), ("trial=3", 3, 0), ("seed=2", 1, 2), ("trial=3,seed=2", 3, 2)]),
        (["hp.learning_rate=1e-4,1e-3"], [("learning_rate=0.0001", 1, 0), ("learning_rate=0.001", 1, 0)]),
        (
            ["hp.learning_rate=1e-4,1e-3", "hp.beta2=0.9,0.99"],
            [(f"beta2={beta},learning_rate={rate}", 1, 0) for rate in ("0.0001", "0.001") for beta in ("0.9", "0.99")],
        ),
        (
            ["hp.learning_rate=1e-4..1e-2", "grid=3"],
            [(f"learning_rate={r}", 1, 0) for r in ("0.0001", "0.001", "0.01")],
        ),
    ],
)
def test_what_a_sweep_is_asked_for_is_what_it_plans(
    overrides: list[str], names: list[tuple[str | None, int, int]]
) -> None:
    assert planned(*overrides) == names


def test_ranges_are_filled_as_the_rules_fill_them() -> None:
    _, trials = sweep_trials([*BASE, "hp.learning_rate=1e-4..1e-2", "hp.dropout_rate=linear(0..0.2)", "points=8"])

    space = RangeSpace(
        dimensions={
            "learning_rate": Range(min=1e-4, max=1e-2, scaling=Scaling.LOG),
            "dropout_rate": Range(min=0.0, max=0.2),
        }
    )
    expected = [map_point(space, point) for point in halton.points(2, num_points=8)]
    points = [trial.hyperparameters or {} for trial in trials]
    assert len(points) == 8
    for point, drawn in zip(points, expected, strict=True):
        assert point["learning_rate"] == pytest.approx(drawn["learning_rate"], rel=1e-5)
        assert point["dropout_rate"] == pytest.approx(drawn["dropout_rate"], rel=1e-5)


def test_lists_and_ranges_multiply() -> None:
    points = expand({"a": ["x", "y"], "b": Range(min=0.0, max=1.0)}, num_points=3)

    assert [point["a"] for point in points] == ["x"] * 3 + ["y"] * 3
    assert [point["b"] for point in points[:3]] == [point["b"] for point in points[3:]]


def test_a_range_is_filled_as_the_search_space_fills_it() -> None:
    space = RangeSpace(dimensions={"rate": Range(min=0.1, max=1.0, scaling=Scaling.LINEAR)})

    assert parse_range("rate", "0.1..0.2", space) == Range(min=0.1, max=0.2)
    assert parse_range("rate", "log(0.1..0.2)", space) == Range(min=0.1, max=0.2, scaling=Scaling.LOG)
    assert parse_range("other", "1e-4..1", space) == Range(min=1e-4, max=1.0, scaling=Scaling.LOG)
    assert parse_range("other", "0..1", None) == Range(min=0.0, max=1.0)
    assert parse_range("other", "1e-4,1", None) is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hp.learning_rate=1e-2..1e-4", "points=3"], "hp.learning_rate: the first number must be below the second"),
        (["hp.learning_rate=log(0..1)", "points=3"], "hp.learning_rate: a range filled by logarithm needs positive"),
        (["hp.learning_rate=a..b", "points=3"], "hp.learning_rate: not a range of two numbers: a..b"),
        (["hp.learning_rate=1e-4..1e-2"], "hp.learning_rate: a range needs a number of points"),
        (["points=3"], "points: points=3, but there is no range"),
        (["hp.learning_rate=1e-4..1e-2", "points=0"], "points: must be at least 1, got 0"),
        (["hp.learning_rate=1e-4..1e-2", "points=2", "grid=2"], "points: points= and grid= exclude each other"),
        (["trial=2,x"], "trial: not a whole number: 'x'"),
        (["trial=9"], "trial: there is no trial 9"),
    ],
)
def test_what_cannot_be_swept_is_explained(overrides: list[str], message: str) -> None:
    with pytest.raises(PerfbenchError) as refused:
        sweep_trials([*BASE, *overrides])

    assert message in str(refused.value)


def test_a_single_trial_takes_one_value() -> None:
    with pytest.raises(
        ConfigError, match=r"hp.learning_rate: a single trial takes one value\n  hint: `perfbench sweep`"
    ):
        compose_run([*BASE, "hp.learning_rate=1e-4,1e-3"])


def test_what_tunes_itself_takes_no_hyperparameters() -> None:
    request = compose_run(["workload=mnist", "submission=schedule_free_adamw_self_tuning", "hp.learning_rate=1.0"])

    with pytest.raises(RulesError, match="takes no hyperparameters: it tunes itself"):
        plan_trial(request)


def test_a_long_name_is_cut_and_stays_one_of_its_kind() -> None:
    names = {
        plan_trial(compose_run([*BASE, *(f"hp.a_long_name_of_a_setting_{i}={value}" for i in range(8))])).explored
        for value in (0.1, 0.2)
    }

    assert len(names) == 2
    assert all(len(name or "") < 200 for name in names)
