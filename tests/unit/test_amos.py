"""Amos against check figures C8 to C11 and C48 of the specification."""

from __future__ import annotations

import math

import pytest
import torch

from submissions.amos.optimizer import Amos, AmosSettings, Style, Treatment, global_rate, tau
from tests.unit.check_problems import matrix_problem, trajectory, vector_problem

C8_ADAM = [
    [0.497065, -0.247138, 0.996919, 0.746992, 0.297123, -0.597036],
    [0.491261, -0.241588, 0.990607, 0.740935, 0.291522, -0.591130],
    [0.482986, -0.233679, 0.981594, 0.732293, 0.283538, -0.582704],
    [0.472703, -0.223758, 0.970568, 0.721648, 0.273538, -0.572263],
    [0.460625, -0.212039, 0.957734, 0.709215, 0.261730, -0.560013],
]
C9_ADAM_BY_ROW = [
    [0.497023, -0.247095, 0.996879, 0.746951, 0.297081, -0.596994],
    [0.491144, -0.241466, 0.990499, 0.740822, 0.291401, -0.591014],
    [0.482762, -0.233444, 0.981390, 0.732079, 0.283305, -0.582484],
    [0.472341, -0.223381, 0.970237, 0.721302, 0.273163, -0.571907],
    [0.460100, -0.211492, 0.957250, 0.708711, 0.261187, -0.559494],
]
C10_REDUCED = [
    [0.499239, -0.248416, 0.998735, 0.749739, 0.297893, -0.593724],
    [0.497791, -0.245406, 0.996329, 0.749243, 0.293887, -0.581805],
    [0.495721, -0.241109, 0.992887, 0.748534, 0.288164, -0.564818],
    [0.493088, -0.235650, 0.988504, 0.747632, 0.280885, -0.543281],
    [0.489941, -0.229140, 0.983258, 0.746554, 0.272193, -0.517668],
]
C11_VECTOR = [
    [0.996843, -0.502724],
    [0.990393, -0.507668],
    [0.981185, -0.514697],
    [0.969910, -0.523795],
    [0.956780, -0.534739],
]


@pytest.mark.parametrize(
    ("style", "dims", "expected"),
    [
        (Style.ADAM, (0, 1), C8_ADAM),
        (Style.ADAM, (1,), C9_ADAM_BY_ROW),
        (Style.REDUCED, (0, 1), C10_REDUCED),
        (Style.ADAM, (0,), C11_VECTOR),
    ],
    ids=["C8", "C9", "C10", "C11"],
)
def test_it_takes_the_published_steps(style: Style, dims: tuple[int, ...], expected: list[list[float]]) -> None:
    weights, gradient = vector_problem() if expected is C11_VECTOR else matrix_problem()
    settings = AmosSettings(style=style, beta1=0.9, beta2=0.99, l2=0.01)
    optimizer = Amos([(weights, Treatment(tuple(weights.shape), dims, 0.5))], settings, lr=0.05)

    visited = trajectory(optimizer, weights, gradient, num_steps=5)

    torch.testing.assert_close(torch.tensor(visited), torch.tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("shared", "expected"),
    [(1, 0.0), (2, 0.6557625504), (6, 1.5669670864), (64, 3.1804877409), (1024, 4.7600532250), (2**20, 8.3132155438)],
)
def test_the_constant_of_a_tensor_is_the_published_one(shared: int, expected: float) -> None:
    assert tau(math.sqrt(shared)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("shared", "horizon", "expected"),
    [(6, 1000, 0.0629472898), (512_000_000, 6932.9, 0.0584113985), (2_048_000, 121_332.9, 0.0122227637)],
)
def test_the_global_rate_is_the_published_one(shared: int, horizon: float, expected: float) -> None:
    assert global_rate(shared, horizon) == pytest.approx(expected, abs=1e-9)
