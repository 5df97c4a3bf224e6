"""Baselines of the AlgoPerf paper: LAMB, Adafactor and momentum SGD against check figures C35, C36, C38 and C39."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from perfbench.api import GradientSubmission
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyRegression
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from perfbench.spec.submission import HyperparameterPoint
from submissions.adafactor.optimizer import Adafactor
from submissions.lamb.optimizer import Lamb
from tests.unit.check_problems import matrix_problem, trajectory, vector_problem

C35_LAMB = [
    [0.915385, -0.573077],
    [0.833176, -0.643114],
    [0.751967, -0.710068],
    [0.670036, -0.773186],
    [0.585206, -0.830383],
]
C36_ADAFACTOR = [
    [0.475499, -0.235523, 0.986453, 0.741174, 0.292035, -0.587893],
    [0.433793, -0.210358, 0.969768, 0.731211, 0.279593, -0.570326],
    [0.377074, -0.175541, 0.950106, 0.720163, 0.262957, -0.547682],
    [0.307618, -0.131832, 0.927449, 0.708002, 0.242189, -0.520080],
    [0.228112, -0.079622, 0.901498, 0.694587, 0.217017, -0.487247],
]
C38_HEAVY_BALL = [
    [0.824000, -0.524500],
    [0.525711, -0.564520],
    [0.178519, -0.607520],
    [-0.141611, -0.640591],
    [-0.372046, -0.653437],
]
C39_NESTEROV = [
    [0.665600, -0.546550],
    [0.319001, -0.589374],
    [0.034479, -0.616103],
    [-0.147845, -0.620863],
    [-0.220484, -0.603907],
]
SGD_POINT: HyperparameterPoint = {
    "learning_rate": 0.1,
    "one_minus_beta1": 0.1,
    "warmup_factor": 0.05,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "dropout_rate": 0.0,
    "decay_steps_factor": 0.9,
    "end_factor": 0.01,
}
LAMB_POINT: HyperparameterPoint = {
    "learning_rate": 0.01,
    "one_minus_beta1": 0.1,
    "beta2": 0.999,
    "warmup_factor": 0.05,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "dropout_rate": 0.0,
}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def assert_visits(visited: list[list[float]], expected: list[list[float]]) -> None:
    torch.testing.assert_close(torch.tensor(visited), torch.tensor(expected), atol=2e-6, rtol=0)


def submission_of(
    name: str, point: HyperparameterPoint, options: dict[str, Any], *, step_hint: int = 100
) -> GradientSubmission:
    spec = compose_submission(name).model_copy(update={"options": options})
    rehearsal = Rehearsal(submission_builder(spec, point), TinyRegression(), seed=0, step_hint=step_hint)
    return cast("GradientSubmission", rehearsal.submission)


@DTYPES
def test_lamb_takes_the_published_steps(dtype: torch.dtype) -> None:
    weights, gradient = vector_problem(dtype)
    optimizer = Lamb([weights], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1)

    assert_visits(trajectory(optimizer, weights, gradient, num_steps=5), C35_LAMB)


@DTYPES
def test_adafactor_takes_the_published_steps(dtype: torch.dtype) -> None:
    weights, gradient = matrix_problem(dtype)
    optimizer = Adafactor([weights], lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.1)

    assert_visits(trajectory(optimizer, weights, gradient, num_steps=5), C36_ADAFACTOR)


@pytest.mark.parametrize(("momentum", "expected"), [("heavy_ball", C38_HEAVY_BALL), ("nesterov", C39_NESTEROV)])
def test_momentum_sgd_takes_the_published_steps(momentum: str, expected: list[list[float]]) -> None:
    """With the settings that the submission gives to torch's optimizer at a point with the figures' numbers."""
    (built,) = submission_of("sgd_momentum", SGD_POINT, {"momentum": momentum}).optimizers
    weights, gradient = vector_problem()
    settings = {name: value for name, value in built.param_groups[0].items() if name != "params"}
    optimizer = torch.optim.SGD([weights], **settings)

    assert_visits(trajectory(optimizer, weights, gradient, num_steps=5), expected)


def test_momentum_sgd_decays_linearly_over_nine_tenths_of_what_follows_the_warm_up() -> None:
    rate = submission_of("sgd_momentum", SGD_POINT, {}, step_hint=1000).schedule

    assert rate is not None  # C47, schedule L
    assert [rate(k) for k in (0, 25, 50, 51, 400, 904, 905, 2000)] == pytest.approx(
        [0, 0.05, 0.1, 0.09988421, 0.05947368, 0.00111579, 0.001, 0.001], abs=1e-8
    )


@pytest.mark.parametrize(("warmup_from", "moved"), [("zero", True), ("almost_zero", False)])
def test_a_first_rate_just_above_zero_keeps_lambs_zero_weights_where_they_are(warmup_from: str, moved: bool) -> None:
    """Whatever a zero tensor gets from its first real update is what later updates are relative to."""
    rate = submission_of("lamb", LAMB_POINT, {"warmup_from": warmup_from}).schedule
    assert rate is not None
    bias = torch.nn.Parameter(torch.zeros(3))
    optimizer = Lamb([bias], betas=(0.9, 0.999))
    for k in range(100):
        optimizer.param_groups[0]["lr"] = rate(k)
        bias.grad = torch.tensor([1.0, -2.0, 3.0])
        optimizer.step()

    assert bool(bias.detach().abs().min() > 1e-4) is moved


def test_lamb_leaves_a_tensor_whose_update_is_zero_finite() -> None:
    weights = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
    optimizer = Lamb([weights], lr=0.1)
    weights.grad = torch.zeros(2)

    optimizer.step()

    assert torch.equal(weights, torch.zeros(2))


SHAPES = ((3, 4), (5,), (2, 3, 4, 2), ())


def random_tensors(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def test_adafactor_agrees_with_the_formulas_written_out_for_tensors_of_any_order() -> None:
    parameters = [torch.nn.Parameter(tensor) for tensor in random_tensors(0)]
    slow = random_tensors(0)
    momenta = [torch.zeros_like(tensor) for tensor in slow]
    weighted_squares = [torch.zeros_like(tensor) for tensor in slow]
    optimizer = Adafactor(parameters, lr=0.01, beta1=0.8, beta2=0.9, weight_decay=0.3)

    for t in range(1, 11):
        total = sum(0.9**age for age in range(t))
        for index, gradient in enumerate(random_tensors(t)):
            parameters[index].grad = gradient
            weighted_squares[index] = (
                0.9 * weighted_squares[index] + gradient**2
            )  # no bias: divided by the weights' sum
            second = weighted_squares[index] / total
            if gradient.dim() >= 2:
                rows, columns = second.mean(-1, keepdim=True), second.mean(-2, keepdim=True)
                second = rows * columns / rows.mean(-2, keepdim=True)
            update = gradient / second.sqrt()
            update = 0.01 * update / max(1.0, float(update.square().mean().sqrt()))
            momenta[index] = 0.8 * momenta[index] + 0.2 * update
            slow[index] = slow[index] * (1 - 0.01 * 0.3) - momenta[index]
        optimizer.step()

    for parameter, expected in zip(parameters, slow, strict=True):
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-12, rtol=1e-10)


def test_adafactor_stays_finite_where_neither_row_nor_column_has_a_gradient() -> None:
    weights = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = Adafactor([weights], lr=0.1)
    for _ in range(3):
        weights.grad = torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
        optimizer.step()

    assert torch.equal(weights[2], torch.ones(3))
    assert torch.equal(weights[:, 2], torch.ones(3))
    assert bool((weights[:2, :2] != 1).all())
    assert bool(weights.isfinite().all())
