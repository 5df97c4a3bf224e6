"""KL-Shampoo, KL-SOAP and Kron: check figures C63 and C65 of the specification, and what their parts promise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from submissions.kl_shampoo.optimizer import KlShampoo, KlSoap
from submissions.kron.optimizer import Kron, spectral_bounds
from tests.unit.check_problems import matrix_problem, noise_of_problem_t, trajectory

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
START = [0.5, -0.25, 1.0, 0.75, 0.3, -0.6]
C63_SHAMPOO = {
    1: START,
    2: [0.455311, -0.131101, 0.914375, 0.728158, 0.209790, -0.252352],
    3: [0.450342, -0.108084, 0.917488, 0.719953, 0.208614, -0.241364],
    5: [0.424054, -0.053693, 0.925673, 0.704030, 0.198324, -0.205265],
}
C63_SOAP = {
    1: START,
    2: [0.510060, -0.173484, 0.969601, 0.691398, 0.300277, -0.556545],
    3: [0.523582, -0.087725, 0.952979, 0.612760, 0.297311, -0.492528],
    5: [0.448326, 0.005379, 1.048180, 0.584985, 0.207189, -0.334587],
}
C65_KRON = [
    [0.458750, -0.170986, 0.945086, 0.733509, 0.216399, -0.355595],
    [0.415930, -0.095923, 0.895172, 0.714854, 0.148448, -0.165637],
    [0.375369, -0.030945, 0.849817, 0.694794, 0.095160, -0.019522],
]


@pytest.mark.parametrize(("kind", "figure"), [(KlShampoo, C63_SHAMPOO), (KlSoap, C63_SOAP)])
@DTYPES
def test_kl_takes_the_published_steps(
    kind: type[KlShampoo], figure: dict[int, list[float]], dtype: torch.dtype
) -> None:
    weights, gradient = matrix_problem(dtype)
    optimizer = kind([weights], lr=0.1, betas=(0.9, 0.95), statistics_decay=0.9, weight_decay=0.01, period=2)
    for call in range(1, 6):
        weights.grad = gradient(weights.detach()) + noise_of_problem_t(call, dtype)
        optimizer.step()
        if call in figure:
            actual = weights.detach().flatten().float()
            torch.testing.assert_close(actual, torch.tensor(figure[call]), atol=5e-6, rtol=0)


class KronWithCosines(Kron):
    """Draws what the figure was made with."""

    def _noise(self, like: Tensor) -> Tensor:
        return (1 + torch.arange(like.numel(), dtype=like.dtype)).cos().reshape(like.shape)


@DTYPES
def test_kron_takes_the_published_steps(dtype: torch.dtype) -> None:
    weights, gradient = matrix_problem(dtype)
    optimizer = KronWithCosines([weights], lr=0.1, weight_decay=0.1)

    visited = trajectory(optimizer, weights, gradient, num_steps=3)

    torch.testing.assert_close(torch.tensor(visited), torch.tensor(C65_KRON), atol=2e-6, rtol=0)


def test_a_bound_of_the_spectral_norm_is_below_it_and_near() -> None:
    drawn = torch.randn(20, 7, 30, generator=torch.Generator().manual_seed(0))
    matrices = drawn @ drawn.mT

    bounds, norms = spectral_bounds(matrices), torch.linalg.matrix_norm(matrices, ord=2)

    assert bool((bounds <= norms * (1 + 1e-5)).all())
    assert bool((bounds > 0.6 * norms).all())
