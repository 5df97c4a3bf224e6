"""What is compiled before there is a submission: each way in which it says that it calls the loss."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from perfbench.compose import compose_submission, compose_workload
from perfbench.data.modules import AuxiliaryDropout, auxiliary_dropout_setter, set_dropout_rate
from perfbench.registry import build_workload, submission_names
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


def test_a_setting_on_record_is_as_it_was_before_there_was_auxiliary_dropout() -> None:
    assert "auxiliary_dropout" not in LossSetting(dropout_rate=0.1).to_json()
    assert LossSetting.from_json(LossSetting(auxiliary_dropout="own").to_json()).auxiliary_dropout == "own"


def test_auxiliary_dropout_has_a_rate_of_its_own_where_a_model_has_it_apart() -> None:
    model = nn.Sequential(nn.Dropout(0.1), AuxiliaryDropout(0.2))
    set_auxiliary = auxiliary_dropout_setter(model)

    set_dropout_rate(model, 0.5)
    assert [module.p for module in (model[0], model[1])] == [0.5, 0.5]
    set_auxiliary(None)
    assert [module.p for module in (model[0], model[1])] == [0.5, 0.2]
    set_auxiliary(0.0)
    assert [module.p for module in (model[0], model[1])] == [0.5, 0.0]


@pytest.mark.parametrize(
    ("workload", "has_it_apart"),
    [
        ("wmt", True),
        ("librispeech_conformer", True),
        ("librispeech_deepspeech", True),
        ("mnist", False),
        ("ogbg", False),
    ],
)
def test_models_have_it_apart_where_there_were_two_rates(workload: str, has_it_apart: bool) -> None:
    model = build_workload(compose_workload(workload, scale="mini"), Path("nowhere")).build_model(seed=0)
    apart = [module for module in model.modules() if isinstance(module, AuxiliaryDropout)]
    others = [module for module in model.modules() if isinstance(module, nn.Dropout) and module not in apart]

    assert bool(apart) is has_it_apart
    assert others or not has_it_apart
