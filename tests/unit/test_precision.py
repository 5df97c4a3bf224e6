"""Precision: set, read back, and on record; boards of two never mix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from perfbench.compose import compose_run
from perfbench.engine.wire.precision import (
    autocast_of,
    expected_precision,
    precision_as_before,
    precision_now,
    set_precision,
)
from perfbench.errors import ConfigError
from perfbench.results.benchmark import split_by_setting
from perfbench.results.reader import read_trials
from perfbench.spec.ruleset import Precision
from tests.trial_folders import trial_spec, write_reaching_trial

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with precision_as_before():
        yield


@pytest.mark.parametrize("precision", Precision)
def test_what_is_set_is_what_torch_says(precision: Precision) -> None:
    torch.backends.cudnn.benchmark = True

    set_precision(precision)

    assert precision_now(precision, CPU) == expected_precision(precision)


def test_what_was_only_tried_out_is_put_back() -> None:
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = True

    with precision_as_before():
        set_precision(Precision.TF32)

    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.benchmark


def test_a_setting_changed_meanwhile_is_seen() -> None:
    set_precision(Precision.FP32)

    torch.set_float32_matmul_precision("medium")

    now = precision_now(Precision.FP32, CPU)
    assert now != expected_precision(Precision.FP32)
    assert now.matmul == "medium"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_models_compute_in_bfloat16_where_the_rule_says_so(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast_of(Precision(precision), CPU):
        out = layer(torch.ones(1, 4))
    out.sum().backward()

    assert out.dtype == dtype
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_tf32_is_the_rule_and_every_ruleset_says_so() -> None:
    for name in ("external", "external_v06", "self_tuning", "self_tuning_v06"):
        request = compose_run(["workload=mnist", "submission=adamw", f"ruleset={name}"])
        assert request.ruleset.precision is Precision.TF32


def test_a_precision_is_part_of_the_setting_and_of_a_trial_s_identity() -> None:
    rules = [
        compose_run(["workload=mnist", "submission=adamw", f"ruleset.precision={precision}"]).ruleset
        for precision in Precision
    ]

    assert [rule.setting() for rule in rules] == ["external v1.0 fp32", "external v1.0", "external v1.0 bf16"]
    assert len({rule.digest(exclude={"source"}) for rule in rules}) == 3


def test_trials_of_two_precisions_stand_on_boards_of_their_own(tmp_path: Path) -> None:
    for precision in Precision:
        rules = trial_spec().ruleset.model_dump(mode="json") | {"precision": precision.value}
        write_reaching_trial(tmp_path / precision.value, time_s=1.0, ruleset=rules)

    found = read_trials([tmp_path])

    assert found.complaints == []
    assert {name: len(trials) for name, trials in split_by_setting(found.trials).items()} == {
        "mini external vtest scored target": 1,
        "mini external vtest fp32 scored target": 1,
        "mini external vtest bf16 scored target": 1,
    }


def test_a_trial_of_before_precision_was_a_rule_can_still_be_read() -> None:
    plain = trial_spec().ruleset.model_dump(mode="json")
    del plain["precision"]

    assert type(trial_spec().ruleset).from_mapping(plain).precision is Precision.TF32


def test_an_unknown_precision_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="ruleset.*precision"):
        compose_run(["workload=mnist", "submission=adamw", "ruleset.precision=fp16"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: precision is read back, not seen at work")
def test_on_a_gpu_tf32_is_coarser_than_float32() -> None:
    factors = torch.randn(2, 512, 512, device="cuda")
    exact = factors[0].double() @ factors[1].double()
    errors = {}
    for precision in (Precision.FP32, Precision.TF32):
        set_precision(precision)
        errors[precision] = float((factors[0] @ factors[1] - exact).abs().max())

    assert errors[Precision.TF32] > 10 * errors[Precision.FP32]
