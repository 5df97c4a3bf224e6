"""What authors use by now is an option of the entries that ran: it reaches the optimizer, and the default is as run."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from pydantic import JsonValue

from perfbench.api import Behaviour, GradientSubmission
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyImages, TinyText
from perfbench.api.optim import FirstEntryOptions, ScheduleFreeVariant
from perfbench.compose import compose_submission
from perfbench.errors import SubmissionError
from perfbench.registry import submission_builder
from perfbench.spec.submission import PointSpace
from submissions.shampoo.optimizer import DistributedShampoo

SOAP_POINT: dict[str, JsonValue] = {
    "learning_rate": 3e-3,
    "one_minus_beta1": 0.05,
    "one_minus_beta2": 0.05,
    "warmup_factor": 0.05,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "dropout_rate": 0.0,
}


def started(name: str, options: dict[str, JsonValue], point: dict[str, JsonValue] | None = None) -> GradientSubmission:
    spec = compose_submission(name)
    spec = spec.model_copy(update={"options": {**spec.options, **options}})
    rehearsal = Rehearsal(submission_builder(spec, point), TinyImages(), seed=0, step_hint=20)
    return cast("GradientSubmission", rehearsal.submission)


@pytest.mark.parametrize(
    ("name", "point", "option", "key", "as_run", "today"),
    [
        ("soap", SOAP_POINT, {"period": 1}, "precondition_frequency", 10, 1),
        ("lion", None, {"betas": "authors"}, "betas", (0.95, 0.98), (0.9, 0.99)),
        ("ademamix", None, {"betas": "authors"}, "betas", (0.8, 0.995, 0.9995), (0.9, 0.999, 0.9999)),
    ],
)
def test_it_reaches_the_optimizer(
    name: str, point: dict[str, JsonValue] | None, option: dict[str, JsonValue], key: str, as_run: Any, today: Any
) -> None:
    groups = [started(name, options, point).optimizers[0].param_groups[0] for options in ({}, option)]

    assert [group[key] for group in groups] == [as_run, today]


def test_shampoo_has_the_numbers_that_its_authors_advise() -> None:
    space = cast("PointSpace", compose_submission("shampoo").search_space)
    found = []
    for numbers in ("as_run", "authors"):
        optimizer = started("shampoo", {"numbers": numbers}, dict(space.points[0])).optimizers[0]
        settings = cast("DistributedShampoo", optimizer).settings
        found.append((settings.blocking.max_dimension, settings.epsilon, settings.precondition_frequency))

    assert found == [(1024, 1e-8, 100), (8192, 1e-12, 10)]


def test_schedule_free_can_be_the_package_s() -> None:
    intended = Behaviour.AS_INTENDED
    options = FirstEntryOptions(decay=intended, second_moment=intended, batch_norm=intended, average="authors")

    assert options.variant() == ScheduleFreeVariant()


@pytest.mark.parametrize(
    "options",
    [
        {"polynomial": "polar_express"},
        {"rate_factor": "spectral"},
        {"rate_factor": "match_adamw"},
    ],
)
def test_muon_s_matrices_move_otherwise(options: dict[str, JsonValue]) -> None:
    weights = []
    for chosen in ({}, options):
        spec = compose_submission("muon")
        spec = spec.model_copy(update={"options": {**spec.options, **chosen}})
        rehearsal = Rehearsal(submission_builder(spec, None), TinyText(), seed=0, step_hint=20)
        rehearsal.train(until=2)
        weights.append(rehearsal.weights())

    before, after = weights
    assert not torch.equal(before["hidden.weight"], after["hidden.weight"])
    assert all(bool(tensor.isfinite().all()) for tensor in after.values())


def test_an_unknown_choice_is_refused_by_name() -> None:
    with pytest.raises(SubmissionError, match="polynomial"):
        started("muon", {"polynomial": "chebyshev"})
