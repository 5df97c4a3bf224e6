"""SAM against check figure C37 of the specification; what it does to weights, statistics and a gradient of zero."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyImages, TinyProblem, TinyRegression
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from perfbench.spec.submission import HyperparameterPoint
from submissions.sam.optimizer import SharpnessAwareAdamW
from tests.unit.check_problems import matrix_problem, vector_problem

C37 = [
    [0.890000, -0.595000],
    [0.781700, -0.686661],
    [0.675630, -0.771627],
    [0.572449, -0.844422],
    [0.472960, -0.897919],
]
POINT: HyperparameterPoint = {
    "learning_rate": 0.01,
    "one_minus_beta1": 0.1,
    "beta2": 0.999,
    "warmup_factor": 0.05,
    "weight_decay": 0.1,
    "label_smoothing": 0.0,
    "dropout_rate": 0.0,
    "rho": 0.05,
}


def optimizer_of(*weights: torch.nn.Parameter, radius: float = 0.05, is_guarded: bool = False) -> SharpnessAwareAdamW:
    return SharpnessAwareAdamW(
        weights, lr=0.1, radius=radius, betas=(0.9, 0.99), weight_decay=0.1, is_guarded=is_guarded
    )


def test_it_takes_the_steps_of_the_benchmarks_baseline() -> None:
    weights, gradient = vector_problem()
    optimizer = optimizer_of(weights)
    visited = []
    for _ in range(5):
        weights.grad = gradient(weights.detach())
        optimizer.ascend()
        weights.grad = gradient(weights.detach())
        optimizer.step()
        visited.append(weights.tolist())

    torch.testing.assert_close(torch.tensor(visited), torch.tensor(C37), atol=2e-6, rtol=0)


def test_it_goes_up_by_the_radius_along_the_gradient_of_all_parameters_and_comes_back_bit_for_bit() -> None:
    (vector, vector_gradient), (matrix, matrix_gradient) = vector_problem(), matrix_problem()
    unused = torch.nn.Parameter(torch.ones(2))
    before = [vector.detach().clone(), matrix.detach().clone()]
    optimizer = optimizer_of(vector, unused, matrix, radius=0.3)
    optimizer.param_groups[0]["lr"] = 0.0
    vector.grad, matrix.grad = vector_gradient(vector.detach()), matrix_gradient(matrix.detach())
    gradient = torch.cat([vector.grad, matrix.grad.flatten()])

    norm = optimizer.ascend()
    way = torch.cat([vector.detach() - before[0], (matrix.detach() - before[1]).flatten()])
    optimizer.step()

    assert float(norm) == pytest.approx(float(gradient.norm()))
    torch.testing.assert_close(way, 0.3 * gradient / gradient.norm(), atol=1e-6, rtol=0)
    assert torch.equal(vector, before[0])
    assert torch.equal(matrix, before[1])
    assert torch.equal(unused, torch.ones(2))


@pytest.mark.parametrize("is_guarded", [False, True])
def test_a_gradient_of_zero_leaves_nothing_unless_guarded(is_guarded: bool) -> None:
    weights = torch.nn.Parameter(torch.ones(2))
    optimizer = optimizer_of(weights, is_guarded=is_guarded)
    weights.grad = torch.zeros(2)
    optimizer.ascend()

    assert bool(weights.isnan().all()) is not is_guarded
    assert torch.equal(weights, torch.ones(2)) is is_guarded


def rehearsal_of(problem: TinyProblem, ascent: str = "as_run", **point: float) -> Rehearsal:
    spec = compose_submission("sam").model_copy(update={"options": {"ascent": ascent}})
    return Rehearsal(submission_builder(spec, {**POINT, **point}), problem, seed=0, step_hint=20)


def test_the_option_reaches_the_optimizer() -> None:
    as_run, guarded = rehearsal_of(TinyRegression()), rehearsal_of(TinyRegression(), "guarded")
    for rehearsal, is_lost in ((as_run, True), (guarded, False)):
        for parameter in rehearsal.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer = vars(rehearsal.submission)["optimizers"][0]
        cast("SharpnessAwareAdamW", optimizer).ascend()

        assert bool(next(rehearsal.model.parameters()).isnan().any()) is is_lost


def test_batch_norm_statistics_are_those_of_the_first_pass() -> None:
    """With a vanishing and with a large distance: the first update's statistics are the same, its loss there is not."""
    near, far = rehearsal_of(TinyImages(), rho=0.0), rehearsal_of(TinyImages(), rho=0.5)
    reports = [rehearsal.train(until=1) for rehearsal in (near, far)]
    buffers = [dict(rehearsal.model.named_buffers()) for rehearsal in (near, far)]

    assert buffers[0]
    for name, expected in buffers[0].items():
        if "running" in name:
            assert torch.equal(buffers[1][name], expected)
    assert reports[0] is not None
    assert reports[1] is not None
    assert torch.equal(reports[0].loss, reports[1].loss)
    assert torch.equal(cast("torch.Tensor", reports[0].extra["loss_after_ascent"]), reports[0].loss)
    assert float(reports[1].extra["loss_after_ascent"]) > float(reports[1].loss)
