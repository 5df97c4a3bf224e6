"""The SGD branch of Generalized Adam against check figures C6 and C7 of the specification."""

from __future__ import annotations

import pytest
import torch

from submissions.generalized_adam.decoupled_sgd import DecoupledSGD
from tests.unit.check_problems import trajectory, vector_problem

C6_NESTEROV = [
    [0.657500, -0.542500],
    [0.309247, -0.581265],
    [0.027966, -0.604290],
    [-0.148896, -0.606195],
    [-0.216480, -0.587649],
]
C7_HEAVY_BALL = [
    [0.815000, -0.520000],
    [0.511950, -0.555750],
    [0.165703, -0.594618],
    [-0.148271, -0.623896],
    [-0.369502, -0.633715],
]


@pytest.mark.parametrize(("nesterov", "expected"), [(True, C6_NESTEROV), (False, C7_HEAVY_BALL)])
def test_it_takes_the_steps_of_the_competition(nesterov: bool, expected: list[list[float]]) -> None:
    weights, gradient = vector_problem()
    optimizer = DecoupledSGD([weights], lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=nesterov)

    visited = trajectory(optimizer, weights, gradient, num_steps=5)

    torch.testing.assert_close(torch.tensor(visited), torch.tensor(expected), atol=2e-6, rtol=0)
