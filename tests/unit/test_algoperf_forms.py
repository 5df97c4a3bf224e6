"""Submissions in AlgoPerf's form keep our contract and train like our own entries of the same algorithm."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfbench.api.contracts.rehearsal import BuildSubmission, Rehearsal
from perfbench.api.contracts.submission import check_submission
from perfbench.api.contracts.tiny_problems import TinyClicks, TinyImages, TinyProblem, TinyText
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from perfbench.spec.submission import HyperparameterPoint, PointSpace, RangeSpace, SubmissionSpec
from perfbench.tuning.sampler import map_point
from tests.algoperf_forms import NAMES, spec_of

NUM_STEPS = 12
SAVED_AT = (0, 3, 6)
OWN = {
    "nadamw": "baseline",
    "lion_like": "lion",
    "adamg_like": "adamg",
    "schedule_free": "schedule_free_adamw",
    "lawa_like": "lawa_queue",
}
"""Our entry of the same algorithm."""
ONLY_THEIRS = {"steps_per_call"}
"""Hyperparameters that ours has no use for."""


def last_point(spec: SubmissionSpec) -> HyperparameterPoint | None:
    match spec.search_space:
        case PointSpace(points=points):
            return dict(points[0] if spec.name == "four_spellings" else points[-1])
        case RangeSpace() as space:
            return map_point(space, (0.3,) * len(space.dimensions))
        case None:
            return None


def losses(build: BuildSubmission, problem: TinyProblem, *, num_steps: int) -> list[float]:
    rehearsal = Rehearsal(build, problem, seed=3, step_hint=100)
    reports = [rehearsal.train(until=step) for step in range(1, num_steps + 1)]
    return [float(report.loss) for report in reports if report is not None]


def test_there_is_a_form_of_each_kind() -> None:
    assert set(OWN) < set(NAMES)
    assert len(NAMES) == 7


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract_and_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    spec = spec_of(name, tmp_path)

    findings = check_submission(
        submission_builder(spec, last_point(spec)),
        problems=(TinyImages(), TinyText()),
        num_steps=NUM_STEPS,
        saved_at=SAVED_AT,
    )

    failed = [f for f in findings if not f.passed and not f.name.endswith("reduces the loss")]  # so few steps may not
    assert len(findings) >= 2 * 9
    assert failed == []


@pytest.mark.parametrize("name", sorted(OWN))
@pytest.mark.parametrize("problem", [TinyImages(), TinyClicks()], ids=lambda problem: str(problem.name))
def test_ten_steps_are_those_of_our_own_entry(name: str, problem: TinyProblem, tmp_path: Path) -> None:
    spec = spec_of(name, tmp_path)
    point = last_point(spec)
    own_point = None if point is None else {key: value for key, value in point.items() if key not in ONLY_THEIRS}

    theirs = losses(submission_builder(spec, point), problem, num_steps=10)
    own = losses(submission_builder(compose_submission(OWN[name]), own_point), problem, num_steps=10)

    assert len(own) == 10
    assert len(set(own)) == 10, "a loss that stands still shows nothing"
    assert theirs == pytest.approx(own, rel=1e-6)


def test_many_updates_in_a_call_are_told_and_are_the_same_updates(tmp_path: Path) -> None:
    spec = spec_of("lawa_like", tmp_path)
    point = last_point(spec)
    assert point is not None
    one = Rehearsal(submission_builder(spec, {**point, "k": 100}), TinyClicks(), seed=3, step_hint=100)
    many = Rehearsal(
        submission_builder(spec, {**point, "k": 100, "steps_per_call": 5}), TinyClicks(), seed=3, step_hint=100
    )

    one.train(until=10)
    report = many.train(until=2)

    assert report is not None
    assert report.extra == {"batches_in_call": 5.0}
    assert all(a.equal(b) for a, b in zip(one.weights().values(), many.weights().values(), strict=True))
