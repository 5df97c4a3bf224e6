"""Schedule-Free Prodigy against check figures C25 and C26 of the specification."""

from __future__ import annotations

import pytest
import torch

from submissions.schedule_free_prodigy.optimizer import ScheduleFreeProdigy
from tests.unit.check_problems import vector_problem

C25_FULL_PRECISION = [
    (0.999985, -0.500015, 1.000000e-06),
    (0.999935, -0.500064, 7.502547e-06),
    (0.999307, -0.500692, 9.127478e-05),
    (0.991361, -0.508633, 1.422792e-03),
    (0.886668, -0.613250, 2.248723e-02),
    (-0.529932, -2.024788, 3.555368e-01),
    (-0.261517, -1.740589, 3.555368e-01),
    (0.265517, -1.050294, 3.555368e-01),
]
C26_AS_SUBMITTED = [
    (0.999985, -0.500015, 1.000000e-06),
    (0.999935, -0.500064, 7.484874e-06),
    (0.999308, -0.500692, 9.117332e-05),
    (0.991336, -0.508637, 1.427531e-03),
    (0.886342, -0.613576, 2.258181e-02),
    (-0.531838, -2.030354, 3.568733e-01),
]


@pytest.mark.parametrize(
    ("dtype", "buffers", "expected"),
    [
        (torch.float64, torch.float64, C25_FULL_PRECISION),
        (torch.float32, torch.bfloat16, C26_AS_SUBMITTED),
    ],
)
def test_it_takes_the_published_steps_and_estimates_the_published_distance(
    dtype: torch.dtype, buffers: torch.dtype, expected: list[tuple[float, float, float]]
) -> None:
    weights, gradient = vector_problem(dtype)
    optimizer = ScheduleFreeProdigy([weights], weight_decay=0.1, buffer_dtype=buffers)
    for first, second, distance in expected:
        optimizer.extrapolate()
        weights.grad = gradient(weights.detach())
        optimizer.step()

        assert weights.tolist() == pytest.approx([first, second], abs=2e-6)
        assert float(optimizer.distance) == pytest.approx(distance, rel=2e-6)
