"""What is compiled before there is a submission: each way in which it says that it calls the loss."""

from __future__ import annotations

import pytest

from perfbench.compose import compose_submission
from perfbench.registry import submission_names
from perfbench.spec.submission import LossSetting, SubmissionSpec


def spec_with(*settings: LossSetting) -> SubmissionSpec:
    plain = compose_submission("baseline")
    return plain.model_copy(update={"loss_settings": settings}) if settings else plain


def test_the_points_hyperparameters_come_first() -> None:
    spec = spec_with(LossSetting(label_smoothing=0.1, dropout_rate=0.3), LossSetting(batch_norm="freeze"))

    first, second = spec.loss_settings_at({"label_smoothing": 0.2, "learning_rate": 3.0})

    assert (first.label_smoothing, first.dropout_rate, first.batch_norm) == (0.2, 0.3, "update")
    assert (second.label_smoothing, second.dropout_rate, second.batch_norm) == (0.2, None, "freeze")


def test_without_a_point_a_submission_calls_the_loss_as_it_says() -> None:
    assert spec_with().loss_settings_at(None) == (LossSetting(),)


@pytest.mark.parametrize("name", submission_names())
def test_every_submission_is_compiled_in_at_least_one_way(name: str) -> None:
    assert compose_submission(name).loss_settings_at(None)
