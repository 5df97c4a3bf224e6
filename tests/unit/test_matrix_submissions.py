"""The submissions of 2026 for matrices: check figures C60 to C62, C66, C67, C70 and C71 of the specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pytorch_optimizer import MARS
from torch import nn
from torch.optim import Optimizer

from perfbench.api.optim import (
    POLAR_EXPRESS,
    Momentum,
    MuonSettings,
    NorMuon,
    RateFactor,
)
from submissions.dion2.optimizer import Dion2
from submissions.hyperball.optimizer import SETTINGS, AdamOnSphere, MuonOnSphere, NorMuonOnSphere
from submissions.mars.optimizer import MATRIX_SETTINGS, MarsMuon
from submissions.scion.optimizer import Ball, Scion
from tests.unit.check_problems import matrix_problem, trajectory

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
Make = Callable[[nn.Parameter, torch.dtype], Optimizer]
Figure = dict[int, list[float]]
"""Step (from 1) to weights."""


def normuon(weights: nn.Parameter, dtype: torch.dtype) -> Optimizer:
    return NorMuon([weights], lr=0.1, weight_decay=0.1, settings=MuonSettings(dtype=dtype))


def normuon_of_dion(weights: nn.Parameter, dtype: torch.dtype) -> Optimizer:
    settings = MuonSettings(
        momentum=Momentum.SUM, polynomials=POLAR_EXPRESS, rate_factor=RateFactor.SPECTRAL, dtype=dtype
    )
    return NorMuon([weights], lr=0.1, weight_decay=0.1, settings=settings)


def scion(ball: Ball, *, weight_decay: float) -> Make:
    def make(weights: nn.Parameter, dtype: torch.dtype) -> Optimizer:
        groups = [{"params": [weights], "ball": ball.value, "radius": 2.0}]
        return Scion(groups, lr=0.1, weight_decay=weight_decay, dtype=dtype)

    return make


def on_sphere(kind: type[MuonOnSphere | NorMuonOnSphere]) -> Make:
    def make(weights: nn.Parameter, dtype: torch.dtype) -> Optimizer:
        return kind([weights], lr=0.1, settings=replace(SETTINGS, dtype=dtype))

    return make


FIGURES: dict[str, tuple[Make, Figure]] = {
    "C60 NorMuon": (
        normuon,
        {
            1: [0.451482, -0.179380, 0.999104, 0.729789, 0.288084, -0.514151],
            2: [0.394565, -0.103187, 1.001452, 0.705698, 0.278089, -0.424436],
            3: [0.338426, -0.034907, 1.001605, 0.681586, 0.265856, -0.337326],
        },
    ),
    "C61 NorMuon of microsoft/dion": (
        normuon_of_dion,
        {
            1: [0.453659, -0.180362, 0.992153, 0.733960, 0.282285, -0.516982],
            3: [0.352325, -0.042322, 0.981788, 0.697139, 0.249178, -0.348342],
        },
    ),
    "C62 MuonH": (
        on_sphere(MuonOnSphere),
        {
            1: [0.465722, -0.167025, 1.059151, 0.774283, 0.297660, -0.519892],
            3: [0.363767, -0.002306, 1.160661, 0.805315, 0.282536, -0.342308],
        },
    ),
    "C62 AdamH": (
        lambda weights, dtype: AdamOnSphere([weights], lr=0.1),
        {
            1: [0.481092, -0.206340, 1.030597, 0.755844, 0.261290, -0.590993],
            3: [0.434147, -0.105250, 1.092618, 0.763235, 0.170629, -0.565670],
        },
    ),
    "C62 NorMuonH": (
        on_sphere(NorMuonOnSphere),
        {
            1: [0.437528, -0.172574, 1.062183, 0.770229, 0.299777, -0.540772],
            3: [0.288460, -0.009680, 1.168673, 0.792525, 0.289782, -0.404759],
        },
    ),
    "C66 Scion, spectral, constrained": (
        scion(Ball.SPECTRAL, weight_decay=1.0),
        {
            1: [0.372418, -0.103559, 0.916231, 0.656340, 0.256911, -0.422780],
            3: [0.147690, 0.125328, 0.768860, 0.494537, 0.175809, -0.125350],
        },
    ),
    "C66 Scion, sign, unconstrained": (
        scion(Ball.SIGN, weight_decay=0.0),
        {3: [0.300000, -0.050000, 0.800000, 0.550000, 0.100000, -0.400000]},
    ),
    "C67 MARS-AdamW": (
        lambda weights, dtype: MARS([weights], lr=0.1, weight_decay=0.1),
        {
            1: [0.395000, -0.147500, 0.890000, 0.642500, 0.197000, -0.494000],
            3: [0.194764, 0.050472, 0.673226, 0.442232, -0.005607, -0.285118],
        },
    ),
    "C67 MARS-M": (
        lambda weights, dtype: MarsMuon(
            [weights], lr=0.1, weight_decay=0.1, settings=replace(MATRIX_SETTINGS, dtype=dtype)
        ),
        {
            1: [0.478542, -0.221738, 0.993443, 0.738542, 0.294223, -0.569134],
            3: [0.431077, -0.160952, 0.982696, 0.714665, 0.284016, -0.508060],
        },
    ),
    "C71 Dion2": (
        lambda weights, dtype: Dion2([weights], lr=0.1, weight_decay=0.1, fraction=0.5, dtype=dtype),
        {
            1: [0.495000, -0.247500, 0.990000, 0.740799, 0.273677, -0.524031],
            3: [0.485149, -0.242575, 0.970299, 0.722580, 0.220788, -0.374714],
        },
    ),
}


@pytest.mark.parametrize(("make", "figure"), FIGURES.values(), ids=FIGURES.keys())
@DTYPES
def test_it_takes_the_published_steps(make: Make, figure: Figure, dtype: torch.dtype) -> None:
    weights, gradient = matrix_problem(dtype)

    visited = trajectory(make(weights, dtype), weights, gradient, num_steps=max(figure))

    for step, expected in figure.items():
        torch.testing.assert_close(torch.tensor(visited[step - 1]), torch.tensor(expected), atol=2e-6, rtol=0)


def test_polar_express_brings_singular_values_near_one() -> None:
    matrix, _ = matrix_problem(torch.float64)

    polar = replace(POLAR_EXPRESS, smallest_norm=1e-6).orthogonalized(matrix.detach()[None])[0]

    expected = torch.tensor([[0.475935, -0.179959, 0.771399], [0.724645, 0.251186, -0.459402]])  # C70
    torch.testing.assert_close(polar.float(), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(
        torch.linalg.svdvals(polar).float(), torch.tensor([0.942212, 0.874899]), atol=2e-6, rtol=0
    )
