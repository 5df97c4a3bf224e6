"""Which points the trials of a study run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perfbench.spec.ruleset import ExternalTuning, SelfTuning
from perfbench.spec.submission import SubmissionSpec
from perfbench.tuning import halton
from perfbench.tuning.sampler import map_point, points_for_study

NADAMW_SPACE: dict[str, Any] = {
    "kind": "ranges",
    "dimensions": {
        "learning_rate": {"kind": "range", "min": 1e-4, "max": 1e-2, "scaling": "log"},
        "one_minus_beta1": {"kind": "range", "min": 0.004, "max": 0.1, "scaling": "log"},
        "beta2": {"kind": "feasible_points", "values": [0.999]},
        "warmup_factor": {"kind": "feasible_points", "values": [0.05]},
        "weight_decay": {"kind": "range", "min": 5e-3, "max": 1.0, "scaling": "log"},
        "label_smoothing": {"kind": "feasible_points", "values": [0.1, 0.2]},
        "dropout_rate": {"kind": "feasible_points", "values": [0.0, 0.1]},
    },
}


RULES: dict[str, Any] = {
    "version": "1.0",
    "source": "the numbers of AlgoPerf v0.5",
    "num_studies": 5,
    "budget_factor": 1.0,
    "step_cap_factor": None,
    "compile": "unscored",
    "evaluated_splits": ["validation"],
    "scoring": {
        "tau_max": 4.0,
        "max_ratio_to_fastest": 4.0,
        "held_out_required": False,
        "integration": "exact",
        "grid_points": 100,
    },
}


@pytest.fixture
def external() -> ExternalTuning:
    return ExternalTuning.from_mapping({**RULES, "num_trials": 5})


def test_a_list_is_run_in_its_order_in_every_study(external: ExternalTuning) -> None:
    submission = spec_with(listed(5))

    for study in range(5):
        points = points_for_study(submission, external, study=study, run_seed=study)
        assert points == [{"learning_rate": number} for number in range(5)]


def test_a_longer_list_loses_its_tail_and_a_shorter_one_reduces_the_trials(external: ExternalTuning) -> None:
    assert len(points_for_study(spec_with(listed(8)), external, study=0, run_seed=0)) == external.num_trials
    assert len(points_for_study(spec_with(listed(3)), external, study=0, run_seed=0)) == 3


def test_ranges_give_the_published_points_dealt_to_the_studies_without_repeats(external: ExternalTuning) -> None:
    submission = spec_with(NADAMW_SPACE)

    studies = [points_for_study(submission, external, study=study, run_seed=1) for study in range(5)]

    dealt = [json.dumps(point) for study in studies for point in study]
    assert [len(study) for study in studies] == [5] * 5
    assert len(set(dealt)) == 25
    first = {
        "learning_rate": 0.0019814680146414726,
        "one_minus_beta1": 0.045677535963609565,
        "beta2": 0.999,
        "warmup_factor": 0.05,
        "weight_decay": 0.010340635370188849,
        "label_smoothing": 0.1,
        "dropout_rate": 0.0,
    }
    assert any(json.loads(point) == pytest.approx(first, rel=1e-12) for point in dealt)


def test_the_mapped_points_are_the_published_ones_in_the_order_of_the_sequence() -> None:
    space = spec_with(NADAMW_SPACE).search_space
    assert space is not None
    assert space.kind == "ranges"
    mapped = [tuple(map_point(space, point).values()) for point in halton.points(7, num_points=3)]

    expected = [
        (0.0019814680146414726, 0.045677535963609565, 0.999, 0.05, 0.010340635370188849, 0.1, 0.0),
        (0.0002366315233112939, 0.007676940273940445, 0.999, 0.05, 0.358796133013872, 0.2, 0.1),
        (0.0009554263254837416, 0.05281759963218209, 0.999, 0.05, 0.01950318659958426, 0.1, 0.0),
    ]
    assert mapped == [pytest.approx(point, rel=1e-12) for point in expected]


def test_the_set_of_points_is_fixed_and_the_run_seed_decides_only_who_gets_them(external: ExternalTuning) -> None:
    submission = spec_with(NADAMW_SPACE)

    def dealt(run_seed: int) -> list[str]:
        studies = [points_for_study(submission, external, study=study, run_seed=run_seed) for study in range(5)]
        return [json.dumps(point) for study in studies for point in study]

    assert dealt(1) == dealt(1)
    assert dealt(1) != dealt(2)
    assert sorted(dealt(1)) == sorted(dealt(2))


def test_the_order_is_the_same_in_every_process(external: ExternalTuning) -> None:
    # A golden value: it changes only with the derivation of the seed, and then results cannot be continued.
    point = points_for_study(spec_with(NADAMW_SPACE), external, study=0, run_seed=0)[0]

    assert point is not None
    assert point["learning_rate"] == pytest.approx(0.0009981701890848006, rel=1e-12)


def test_self_tuning_is_one_trial_without_a_point() -> None:
    ruleset = SelfTuning.from_mapping(RULES)
    submission = SubmissionSpec.from_mapping(
        {"name": "tunes_itself", "version": 1, "description": "", "rulesets": ["self_tuning"]}
    )

    assert points_for_study(submission, ruleset, study=3, run_seed=0) == [None]


def spec_with(space: dict[str, Any]) -> SubmissionSpec:
    return SubmissionSpec.from_mapping(
        {"name": "some", "version": 1, "description": "", "rulesets": ["external"], "search_space": space}
    )


def listed(num_points: int) -> dict[str, Any]:
    return {"kind": "points", "points": [{"learning_rate": number} for number in range(num_points)]}
