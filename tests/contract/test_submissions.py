"""The submission contract, over every submission found on disk and the points of its search space.

A new submission is tested the day its folder and YAML exist; nothing here names one.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch

from perfbench.api.contracts.conduct import check_conduct
from perfbench.api.contracts.finding import Finding
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.submission import check_hyperparameters, check_points, check_source
from perfbench.api.contracts.tiny_problems import TinyRegression
from perfbench.compose import compose_submission
from perfbench.config_files import choices
from perfbench.errors import ConfigError, SubmissionError
from perfbench.registry import (
    repository_root,
    submission_builder,
    submission_names,
    with_stand_ins,
    workload_families,
)
from perfbench.spec.base import Spec
from perfbench.spec.submission import FeasiblePoints, HyperparameterPoint, PointSpace, RangeSpace, SubmissionSpec
from perfbench.tuning import halton
from perfbench.tuning.sampler import map_point

NAMES = submission_names()
NUM_DRAWN = 2


def test_submissions_are_found() -> None:
    assert len(NAMES) >= 3
    assert set(NAMES) <= set(choices("submission"))


@cache
def spec_of(name: str) -> SubmissionSpec:
    return compose_submission(name)


def points_of(name: str) -> list[HyperparameterPoint | None]:
    """Return the points that are checked: none of them where an entry tunes itself, first where it does both."""
    own: list[HyperparameterPoint | None] = [None] if "self_tuning" in spec_of(name).rulesets else []
    match spec_of(name).search_space:
        case PointSpace(points=points):
            return own + list(points)
        case RangeSpace() as space:
            drawn = halton.points(len(space.dimensions), num_points=NUM_DRAWN)
            return own + [map_point(space, point) for point in drawn]
        case None:
            return own


def folder_of(name: str) -> Path:
    return repository_root() / "submissions" / name


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"submissions.{name}.submission")


def choices_in(point: HyperparameterPoint | None) -> str:
    """Return what a point says besides numbers: words, switches, and what is left out."""
    return str({name: value for name, value in (point or {}).items() if isinstance(value, str | bool | None)})


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where submissions write stand-ins for the files that this repository does not hold."""
    return tmp_path_factory.mktemp("stand_ins")


def failures(findings: list[Finding]) -> list[str]:
    assert findings
    return [str(finding) for finding in findings if not finding.passed]


NAMED_POINTS = [
    pytest.param(name, point, id=f"{name}-{number}")
    for name in NAMES
    for number, point in enumerate(points_of(name), start=1)
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract(name: str, stand_ins: Path) -> None:
    """Training takes seconds: the first and the last point do it, or an entry's own; all are read and built below."""
    spec, points = with_stand_ins(spec_of(name), stand_ins), points_of(name)
    indices = {0} if points[0] is None else {0, len(points) - 1}
    trained = {f"point {index + 1}": points[index] for index in sorted(indices)}

    builders = {label: submission_builder(spec, point) for label, point in trained.items()}

    assert failures(check_points(builders)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_fits_its_memory_seldom_waits_and_looks_at_no_names(name: str, stand_ins: Path) -> None:
    spec, points = with_stand_ins(spec_of(name), stand_ins), points_of(name)
    of_each_kind = {choices_in(point): point for point in reversed(points)}  # numbers change neither state nor waits

    for point in of_each_kind.values():
        findings = check_conduct(
            submission_builder(spec, point),
            state_bytes_per_parameter=spec.state_bytes_per_parameter,
            waits_per_step=spec.waits_per_step,
        )
        assert failures(findings) == []


@pytest.mark.parametrize(("name", "point"), [named for named in NAMED_POINTS if named.values[1] is not None])
def test_it_reads_hyperparameters_strictly(name: str, point: HyperparameterPoint) -> None:
    hyperparameters: type[Spec] = module_of(name).Hyperparameters

    assert failures(check_hyperparameters(hyperparameters, point)) == []


@pytest.mark.parametrize(("name", "point"), NAMED_POINTS)
def test_it_builds_and_steps_at_every_point(name: str, point: HyperparameterPoint | None, stand_ins: Path) -> None:
    spec = with_stand_ins(spec_of(name), stand_ins)
    rehearsal = Rehearsal(submission_builder(spec, point), TinyRegression(), seed=0, step_hint=100)

    report = rehearsal.train(until=2)

    assert report is not None
    assert torch.isfinite(report.loss)


@pytest.mark.parametrize("name", [name for name in NAMES if "external" not in spec_of(name).rulesets])
def test_an_entry_that_only_tunes_itself_cannot_be_given_hyperparameters(name: str, stand_ins: Path) -> None:
    spec = with_stand_ins(spec_of(name), stand_ins)

    with pytest.raises(SubmissionError, match=r"takes no hyperparameters, but \['learning_rate'\] are given"):
        submission_builder(spec, {"learning_rate": 0.1})
    space = {"kind": "points", "points": [{"learning_rate": 0.1}]}
    with pytest.raises(ConfigError, match="a self-tuning submission must not have a search_space"):
        SubmissionSpec.from_mapping({**spec.model_dump(mode="json"), "search_space": space})


@pytest.mark.parametrize("name", NAMES)
def test_its_code_names_no_workload(name: str) -> None:
    known = {*workload_families(), *choices("workload")}
    assert known

    assert failures(check_source(folder_of(name), workload_names=known)) == []


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(spec_of(name).search_space, RangeSpace)])
def test_the_corners_of_its_search_space_are_accepted(name: str) -> None:
    space = spec_of(name).search_space
    assert isinstance(space, RangeSpace)
    hyperparameters: type[Spec] = module_of(name).Hyperparameters
    for which in (0, -1):
        corner = {
            key: dimension.values[which]
            if isinstance(dimension, FeasiblePoints)
            else (dimension.min, dimension.max)[which]
            for key, dimension in space.dimensions.items()
        }
        hyperparameters.from_mapping(corner)


@pytest.mark.parametrize("name", NAMES)
def test_its_readme_says_where_it_comes_from_and_what_it_costs(name: str) -> None:
    text = (folder_of(name) / "README.md").read_text(encoding="utf-8")

    for heading in ("## Origin", "## What differs", "## Cost"):
        assert heading in text
