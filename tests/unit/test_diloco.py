"""Single-worker DiLoCo against check figure C43 of the specification; what is evaluated, and when."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from perfbench.api import GradientSubmission
from perfbench.api.contracts.rehearsal import Rehearsal, differences
from perfbench.api.contracts.tiny_problems import TinyRegression
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from submissions.single_worker_diloco.slow_weights import SlowWeights
from tests.unit.check_problems import vector_problem

C43_FAST = [
    [0.890000, -0.595000],
    [0.884044, -0.599013],
    [0.776006, -0.689776],
    [0.731759, -0.725100],
    [0.627461, -0.802911],
    [0.555109, -0.856512],
]
C43_MOMENTUM = {2: [0.218246, 0.186357], 4: [0.381390, 0.318235]}
"""After the steps with an outer step."""


def test_fast_and_slow_weights_and_momentum_are_those_of_the_entry() -> None:
    weights, gradient = vector_problem()
    optimizer = torch.optim.AdamW([weights], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1)
    slow_weights = SlowWeights([weights.detach()], rate=0.3006, momentum=0.7675)
    for step, expected in enumerate(C43_FAST, start=1):
        weights.grad = gradient(weights.detach())
        optimizer.step()
        if step % 2 == 0:
            slow_weights.call_back([weights.detach()])
            assert torch.equal(slow_weights.value()[0], weights.detach())
        if step in C43_MOMENTUM:
            (momentum,) = slow_weights.state_dict()["momenta"]
            torch.testing.assert_close(momentum, torch.tensor(C43_MOMENTUM[step]), atol=2e-6, rtol=0)

        torch.testing.assert_close(weights.detach(), torch.tensor(expected), atol=2e-6, rtol=0)


def test_slow_weights_are_torchs_nesterov_on_the_way_of_the_training_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    training = [torch.randn(shape, generator=generator) for shape in ((3, 2), (4,))]
    slow = [torch.nn.Parameter(tensor.clone()) for tensor in training]
    torchs = torch.optim.SGD(slow, lr=0.3, momentum=0.7, nesterov=True)
    ours = SlowWeights(training, rate=0.3, momentum=0.7)
    for _ in range(5):
        for tensor, parameter in zip(training, slow, strict=True):
            tensor.add_(torch.randn(tensor.shape, generator=generator))
            parameter.grad = parameter.detach() - tensor
        torchs.step()
        ours.call_back(training)

    for mine, parameter, tensor in zip(ours.value(), slow, training, strict=True):
        torch.testing.assert_close(mine, parameter.detach(), atol=1e-6, rtol=0)
        assert torch.equal(mine, tensor)


@pytest.fixture
def rehearsal() -> Rehearsal:
    return Rehearsal(
        submission_builder(compose_submission("single_worker_diloco"), None), TinyRegression(), seed=0, step_hint=200
    )


def evaluated(rehearsal: Rehearsal) -> dict[str, torch.Tensor]:
    """Return copies of what would be evaluated."""
    model = rehearsal.submission.prepare_for_eval()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rehearsal.submission.resume_training()
    return weights


def test_an_evaluation_sees_the_initial_weights_before_the_first_call_and_slow_ones_from_then_on(
    rehearsal: Rehearsal,
) -> None:
    initial = rehearsal.weights()
    rehearsal.train(until=74)
    assert differences(initial, evaluated(rehearsal)) == []
    assert differences(initial, rehearsal.weights()) != []

    rehearsal.train(until=75)
    called_back = rehearsal.weights()
    assert differences(initial, called_back) != []
    assert differences(called_back, evaluated(rehearsal)) == []

    rehearsal.train(until=80)
    assert differences(called_back, evaluated(rehearsal)) == []
    assert differences(called_back, rehearsal.weights()) != []


def test_the_rate_starts_at_its_peak_and_ends_at_the_step_hint(rehearsal: Rehearsal) -> None:
    schedule = cast("GradientSubmission", rehearsal.submission).schedule
    assert schedule is not None

    assert [schedule(k) for k in (0, 100, 200, 600)] == pytest.approx([0.000955, 0.0004775, 0.0, 0.0])


def test_a_resume_in_the_middle_of_a_period_goes_on_bit_for_bit(rehearsal: Rehearsal) -> None:
    rehearsal.train(until=100)
    saved = rehearsal.saved()
    rehearsal.train(until=160)
    expected = [rehearsal.weights(), evaluated(rehearsal)]
    rehearsal.restore(saved)
    rehearsal.train(until=160)

    assert differences(expected, [rehearsal.weights(), evaluated(rehearsal)]) == []
