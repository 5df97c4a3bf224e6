"""SOAP against check figures C40 and C41 of the specification, on its problem T."""

from __future__ import annotations

import pytest
import torch
from pytorch_optimizer import SOAP

from tests.unit.check_problems import matrix_problem, noise_of_problem_t

START = [0.5, -0.25, 1.0, 0.75, 0.3, -0.6]
SECOND = [0.518399, -0.078501, 0.924853, 0.614305, 0.298279, -0.499037]
C40 = [
    START,
    SECOND,
    [0.496228, -0.000751, 0.931805, 0.507633, 0.276936, -0.390654],
    [0.454861, 0.065583, 0.914514, 0.475888, 0.221850, -0.304501],
    [0.405182, 0.126574, 0.899723, 0.410008, 0.162338, -0.220154],
    [0.322068, 0.153689, 0.875018, 0.376174, 0.138414, -0.124872],
]
C41 = [
    START,
    SECOND,
    [0.518023, 0.034663, 0.891469, 0.477573, 0.284251, -0.391026],
    [0.468850, 0.091201, 0.872020, 0.450246, 0.234636, -0.302738],
    [0.406632, 0.143628, 0.861392, 0.401067, 0.159481, -0.222641],
    [0.320215, 0.164186, 0.838372, 0.369204, 0.133251, -0.127360],
]


@pytest.mark.parametrize(("frequency", "expected"), [(1, C40), (2, C41)], ids=["C40", "C41"])
def test_it_takes_the_steps_of_the_authors_code(frequency: int, expected: list[list[float]]) -> None:
    weights, gradient = matrix_problem()
    optimizer = SOAP([weights], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1, precondition_frequency=frequency)

    for call, after in enumerate(expected, start=1):
        weights.grad = gradient(weights.detach()) + noise_of_problem_t(call)
        optimizer.step()
        torch.testing.assert_close(weights.detach().flatten(), torch.tensor(after), atol=2e-6, rtol=0)
