"""NAdamW against check figure C1 of the specification (identical to ``timm.optim.NAdamW``)."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from perfbench.api.optim import FirstMoment, MomentCorrection, NAdamW
from tests.unit.check_problems import trajectory, vector_problem

C1 = [
    [0.800000, -0.685000],
    [0.659330, -0.785904],
    [0.540355, -0.842729],
    [0.435137, -0.861222],
    [0.341165, -0.848287],
]
C2_ADAMW = [
    [0.890000, -0.595000],
    [0.781754, -0.686357],
    [0.675851, -0.770156],
    [0.573033, -0.840039],
    [0.474198, -0.888313],
]
C3_TORCH_NADAM = [
    [0.884355, -0.600645],
    [0.802957, -0.657536],
    [0.730496, -0.699589],
    [0.662011, -0.730691],
    [0.596289, -0.750765],
]
SETTINGS: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_takes_the_steps_of_the_competition(dtype: torch.dtype) -> None:
    weights, gradient = vector_problem(dtype)

    visited = trajectory(NAdamW([weights], **SETTINGS), weights, gradient, num_steps=5)

    torch.testing.assert_close(torch.tensor(visited), torch.tensor(C1), atol=2e-6, rtol=0)


def test_it_is_neither_adamw_nor_torchs_nadam() -> None:
    weights, gradient = vector_problem()
    adamw = trajectory(torch.optim.AdamW([weights], **SETTINGS), weights, gradient, num_steps=5)
    weights, gradient = vector_problem()
    nadam_optimizer = torch.optim.NAdam([weights], **SETTINGS, decoupled_weight_decay=True)
    nadam = trajectory(nadam_optimizer, weights, gradient, num_steps=5)

    torch.testing.assert_close(torch.tensor(adamw), torch.tensor(C2_ADAMW), atol=2e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(nadam), torch.tensor(C3_TORCH_NADAM), atol=2e-6, rtol=0)


C4_POWER_1_5 = [
    [0.832333, -0.796606],
    [0.708650, -0.944014],
    [0.599790, -0.985673],
    [0.499510, -0.951822],
    [0.405923, -0.876818],
]
C5_POWER_1_5_WITHOUT_NESTEROV = [
    [0.981702, -0.510874],
    [0.956067, -0.536108],
    [0.923866, -0.574336],
    [0.885797, -0.624210],
    [0.842514, -0.684135],
]


@pytest.mark.parametrize(("nesterov", "expected"), [(True, C4_POWER_1_5), (False, C5_POWER_1_5_WITHOUT_NESTEROV)])
def test_with_another_root_it_takes_the_steps_of_nadamp(nesterov: bool, expected: list[list[float]]) -> None:
    weights, gradient = vector_problem()
    optimizer = NAdamW([weights], **SETTINGS, power=1.5, first_moment=FirstMoment(nesterov=nesterov))

    visited = trajectory(optimizer, weights, gradient, num_steps=5)

    torch.testing.assert_close(torch.tensor(visited), torch.tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize("nesterov", [True, False])
def test_the_intended_correction_makes_the_first_update_as_long_as_the_rate(nesterov: bool) -> None:
    weights, gradient = vector_problem()
    first_moment = FirstMoment(nesterov=nesterov, correction=MomentCorrection.AS_INTENDED)
    optimizer = NAdamW([weights], lr=0.1, betas=(0.9, 0.99), first_moment=first_moment)

    ((visited),) = trajectory(optimizer, weights, gradient, num_steps=1)

    assert visited == pytest.approx([0.9, -0.6], abs=1e-6)


def test_it_agrees_with_the_formulas_written_out_over_many_random_steps() -> None:
    parameters = [torch.nn.Parameter(tensor) for tensor in random_tensors(seed=0)]
    slow = [parameter.detach().double() for parameter in parameters]
    first = [torch.zeros_like(tensor) for tensor in slow]
    second = [torch.zeros_like(tensor) for tensor in slow]
    optimizer = NAdamW(parameters, lr=0.01, betas=(0.8, 0.9), weight_decay=0.3)

    for t in range(1, 51):
        for index, gradient in enumerate(random_tensors(seed=t)):
            parameters[index].grad = gradient
            g = gradient.double()
            first[index] = 0.8 * first[index] + 0.2 * g
            second[index] = 0.9 * second[index] + 0.1 * g * g
            direction = (0.8 * first[index] + 0.2 * g) / (1 - 0.8**t)
            scale = (second[index] / (1 - 0.9**t)).sqrt() + 1e-8
            slow[index] = slow[index] - 0.01 * (direction / scale + 0.3 * slow[index])
        optimizer.step()

    for parameter, expected in zip(parameters, slow, strict=True):
        torch.testing.assert_close(parameter.detach().double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("num_steps_before", [0, 1, 7])
def test_it_resumes_bit_for_bit(num_steps_before: int) -> None:
    parameters = [torch.nn.Parameter(tensor) for tensor in random_tensors(seed=0)]
    optimizer = NAdamW(parameters, lr=0.01, weight_decay=0.1)
    take_random_steps(optimizer, parameters, range(num_steps_before))
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "parameters": parameters}, file)
    take_random_steps(optimizer, parameters, range(num_steps_before, 20))

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed_parameters = [torch.nn.Parameter(tensor.detach()) for tensor in saved["parameters"]]
    resumed = NAdamW(resumed_parameters, lr=0.5)
    resumed.load_state_dict(saved["optimizer"])
    take_random_steps(resumed, resumed_parameters, range(num_steps_before, 20))

    for expected, actual in zip(parameters, resumed_parameters, strict=True):
        assert torch.equal(expected, actual)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = NAdamW([used, unused], lr=0.1, weight_decay=0.1)

    used.grad = torch.ones(2)
    optimizer.step()

    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


def test_impossible_settings_are_refused_with_their_values() -> None:
    with pytest.raises(ValueError, match=r"lr=-1"):
        NAdamW([torch.nn.Parameter(torch.ones(1))], lr=-1)


def random_tensors(*, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,), (2, 3, 2, 2), ())]


def take_random_steps(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], steps: range) -> None:
    for step in steps:
        for parameter, gradient in zip(parameters, random_tensors(seed=1000 + step), strict=True):
            parameter.grad = gradient
        optimizer.step()
