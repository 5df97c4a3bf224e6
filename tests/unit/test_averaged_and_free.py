"""GPA-AdamW, Prodigy and Schedule-Free+: check figures C64, C68 and C69 of the specification."""

from __future__ import annotations

import pytest
import torch
from pytorch_optimizer import Prodigy as PackagedProdigy

from submissions.gpa_adamw.optimizer import AveragedAdamW
from submissions.prodigy.optimizer import Prodigy
from submissions.schedule_free_plus.optimizer import AveragingSettings, ScheduleFreePlus
from tests.unit.check_problems import trajectory, vector_problem

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
C64_AS_PUBLISHED = [
    [0.927014, -0.565985],
    [0.874920, -0.613945],
    [0.847330, -0.638993],
    [0.819058, -0.664320],
    [0.789834, -0.690100],
]
C64_INTENDED = [
    [0.927014, -0.565985],
    [0.855048, -0.630511],
    [0.816360, -0.664410],
    [0.778804, -0.696761],
    [0.741802, -0.727968],
]
C68_GPA = [
    [0.962000, -0.536500],
    [0.916967, -0.578571],
    [0.865789, -0.625274],
    [0.809301, -0.675565],
    [0.748299, -0.728207],
]
C69_PRODIGY = [
    [0.990000, -0.510000],
    [0.976536, -0.523457],
    [0.960828, -0.539134],
    [0.941665, -0.558235],
    [0.906792, -0.593244],
]


def assert_near(actual: list[list[float]] | list[float], expected: list[list[float]] | list[float]) -> None:
    torch.testing.assert_close(torch.tensor(actual), torch.tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("corrects_once", "gradient_points", "average", "rate"),
    [
        (False, C64_AS_PUBLISHED, [0.792847, -0.687439], 0.0580502),
        (True, C64_INTENDED, [0.745559, -0.724794], 0.0694914),
    ],
)
@DTYPES
def test_schedule_free_plus_takes_the_published_steps(
    corrects_once: bool, gradient_points: list[list[float]], average: list[float], rate: float, dtype: torch.dtype
) -> None:
    weights, gradient = vector_problem(dtype)
    settings = AveragingSettings(num_changing=4, rate_decay=0.5, num_skipped=1, corrects_once=corrects_once)
    optimizer = ScheduleFreePlus([weights], lr=0.1, weight_decay=1.0, settings=settings)
    linear = gradient(torch.zeros(2, dtype=dtype))
    points = []
    for _ in range(5):
        optimizer.extrapolate()
        points.append(weights.detach().tolist())
        y = weights.detach()
        weights.grad = gradient(y)
        optimizer.take_loss(0.5 * y @ (gradient(y) - linear) + linear @ y + 1)
        optimizer.step()
    assert_near(weights.tolist(), average)
    optimizer.extrapolate()
    points.append(weights.detach().tolist())

    assert_near(points[1:], gradient_points)
    assert float(optimizer.rate) == pytest.approx(rate, abs=1e-6)


@DTYPES
def test_gpa_takes_the_published_steps_and_evaluates_the_average(dtype: torch.dtype) -> None:
    weights, gradient = vector_problem(dtype)
    optimizer = AveragedAdamW([weights], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1, averages=(0.7, 0.9))

    assert_near(trajectory(optimizer, weights, gradient, num_steps=5), C68_GPA)
    assert_near(optimizer.evaluated()[0].tolist(), [0.869998, -0.632191])


@DTYPES
def test_prodigy_takes_the_published_steps(dtype: torch.dtype) -> None:
    weights, gradient = vector_problem(dtype)
    optimizer = Prodigy([weights], betas=(0.9, 0.99), initial_distance=0.01)

    assert_near(trajectory(optimizer, weights, gradient, num_steps=5), C69_PRODIGY)


def test_prodigy_is_the_package_s_over_several_tensors() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), ()]
    ours = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    settings = {"weight_decay": 0.1, "betas": (0.9, 0.99)}
    pairs = [
        (Prodigy(ours, initial_distance=0.01, **settings), ours),  # type: ignore[arg-type]
        (PackagedProdigy(theirs, d0=0.01, bias_correction=False, **settings), theirs),  # type: ignore[arg-type]
    ]
    for _ in range(30):
        for optimizer, parameters in pairs:
            for parameter in parameters:
                parameter.grad = parameter.detach() - 3
            optimizer.step()

    assert float(pairs[0][0].distance) > 0.05  # type: ignore[attr-defined]
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.detach(), other.detach(), atol=1e-5, rtol=1e-5)
