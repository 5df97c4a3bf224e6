"""Schedule-Free AdamW against check figures C18 to C20 and C23, C24 of the specification."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import schedulefree  # type: ignore[import-untyped]  # the package has no py.typed
import torch

from perfbench.api import Behaviour
from perfbench.api.optim import DecayPoint, FirstEntryOptions, ScheduleFreeAdamW, ScheduleFreeVariant
from perfbench.api.schedules import WarmupConstant
from tests.unit.check_problems import vector_problem

V05 = ScheduleFreeVariant(decay_at=DecayPoint.AVERAGE, decay_is_corrected=True, step_power=0.75)
V2 = ScheduleFreeVariant(decay_is_corrected=True, uses_highest_rate=False)
C18_AS_SUBMITTED = [
    [0.949444, -0.549701],
    [0.864062, -0.628446],
    [0.808062, -0.672150],
    [0.754220, -0.708792],
    [0.702117, -0.738677],
]
C19_FULL_PRECISION = [
    [0.949500, -0.549750],
    [0.864292, -0.628293],
    [0.808348, -0.671963],
    [0.754602, -0.708701],
    [0.702519, -0.738637],
]
C20_V2 = [
    [0.949500, -0.549750],
    [0.871201, -0.621925],
    [0.821906, -0.661462],
    [0.775988, -0.694581],
    [0.731969, -0.722585],
]
C23_PACKAGE = [
    [0.945000, -0.547500],
    [0.860422, -0.615870],
    [0.807616, -0.652692],
    [0.758697, -0.683182],
    [0.712037, -0.708621],
]
C24_PACKAGE_GRADIENT_POINT = [
    [0.945000, -0.547500],
    [0.858308, -0.617579],
    [0.801015, -0.657295],
    [0.747690, -0.690043],
    [0.696873, -0.716889],
]


def optimizer_of(weights: torch.nn.Parameter, variant: ScheduleFreeVariant) -> ScheduleFreeAdamW:
    return ScheduleFreeAdamW([weights], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1, variant=variant)


def trajectories(variant: ScheduleFreeVariant, *, num_steps: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the average and the gradient point after each step on problem V with a warm-up of two updates."""
    weights, gradient = vector_problem()
    optimizer = optimizer_of(weights, variant)
    schedule = WarmupConstant(peak=0.1, warmup=2)
    averages, points = [], []
    for k in range(num_steps):
        optimizer.param_groups[0]["lr"] = schedule(k)
        optimizer.extrapolate()
        weights.grad = gradient(weights.detach())
        optimizer.step()
        averages.append(weights.detach().clone())
        points.append(torch.lerp(weights.detach(), optimizer.state[weights]["iterate"], 0.1))
    return torch.stack(averages), torch.stack(points)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (replace(V05, second_moment_dtype=torch.bfloat16), C18_AS_SUBMITTED),
        (V05, C19_FULL_PRECISION),
        (V2, C20_V2),
        (ScheduleFreeVariant(), C23_PACKAGE),
    ],
)
def test_each_variant_takes_the_published_steps(variant: ScheduleFreeVariant, expected: list[list[float]]) -> None:
    averages, _ = trajectories(variant)

    torch.testing.assert_close(averages, torch.tensor(expected), atol=2e-6, rtol=0)


def by_hand_as_in_the_paper() -> list[list[float]]:
    """The first entry's average with decay at the gradient point and an uncorrected rate, in double precision."""
    start, gradient = vector_problem(torch.float64)
    x = z = start.detach()
    v, total, averages = torch.zeros(2, dtype=torch.float64), 0.0, []
    for t in range(1, 6):
        rate, y = 0.1 * min(t / 2, 1.0), 0.9 * x + 0.1 * z
        g = gradient(y)
        v = 0.99 * v + 0.01 * g * g
        z = z - rate * (1 - 0.99**t) ** 0.5 * g / (v.sqrt() + 1e-8) - rate * 0.1 * y
        total += t**0.75 * rate**2
        x = x + t**0.75 * rate**2 / total * (z - x)
        averages.append(x.tolist())
    return averages


@pytest.mark.parametrize(
    ("decay", "second_moment", "expected"),
    [
        (Behaviour.AS_RUN, Behaviour.AS_RUN, C18_AS_SUBMITTED),
        (Behaviour.AS_RUN, Behaviour.AS_INTENDED, C19_FULL_PRECISION),
        (Behaviour.AS_INTENDED, Behaviour.AS_INTENDED, by_hand_as_in_the_paper()),
    ],
)
def test_the_options_of_the_first_entry_are_its_variants(
    decay: Behaviour, second_moment: Behaviour, expected: list[list[float]]
) -> None:
    options = FirstEntryOptions(decay=decay, second_moment=second_moment, batch_norm=Behaviour.AS_RUN)

    averages, _ = trajectories(options.variant())

    torch.testing.assert_close(averages, torch.tensor(expected), atol=2e-6, rtol=0)


def test_the_published_package_takes_the_same_steps_and_has_the_same_gradient_points() -> None:
    """What the defaults of ours and figures C23 and C24 are about: ``schedulefree`` 1.4.1 itself."""
    weights, gradient = vector_problem()
    optimizer = schedulefree.AdamWScheduleFree([weights], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1, warmup_steps=2)
    averages, points = [], []
    for _ in range(5):
        optimizer.train()
        weights.grad = gradient(weights.detach())
        optimizer.step()
        points.append(weights.detach().clone())
        optimizer.eval()
        averages.append(weights.detach().clone())

    torch.testing.assert_close(torch.stack(averages), torch.tensor(C23_PACKAGE), atol=2e-6, rtol=0)
    torch.testing.assert_close(torch.stack(points), torch.tensor(C24_PACKAGE_GRADIENT_POINT), atol=2e-6, rtol=0)


def test_the_gradient_point_of_the_published_package_is_the_extrapolation_of_the_average() -> None:
    _, points = trajectories(ScheduleFreeVariant())

    torch.testing.assert_close(points, torch.tensor(C24_PACKAGE_GRADIENT_POINT), atol=2e-6, rtol=0)


def test_a_second_moment_in_bfloat16_is_still_one_after_a_resume() -> None:
    variant = replace(V05, second_moment_dtype=torch.bfloat16)
    weights, gradient = vector_problem()
    optimizer = optimizer_of(weights, variant)
    optimizer.extrapolate()
    weights.grad = gradient(weights.detach())
    optimizer.step()
    resumed_weights = torch.nn.Parameter(weights.detach().clone())
    resumed = optimizer_of(resumed_weights, variant)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    assert resumed.state[resumed_weights]["second_moment"].dtype is torch.bfloat16
    assert resumed.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_a_parameter_without_gradient_comes_back_to_the_average() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = ScheduleFreeAdamW([used, unused], lr=0.1)
    for _ in range(3):
        optimizer.extrapolate()
        used.grad = torch.ones(2)
        optimizer.step()

    assert torch.equal(unused, torch.ones(2))


def test_a_restart_forgets_everything() -> None:
    variant = V05
    fresh, _ = trajectories(variant, num_steps=1)
    weights, gradient = vector_problem()
    initial = weights.detach().clone()
    optimizer = optimizer_of(weights, variant)
    for _ in range(4):
        optimizer.extrapolate()
        weights.grad = gradient(weights.detach())
        optimizer.step()

    optimizer.restart_from([initial])
    optimizer.param_groups[0]["lr"] = 0.05
    optimizer.extrapolate()
    weights.grad = gradient(weights.detach())
    optimizer.step()

    torch.testing.assert_close(weights.detach(), fresh[0], atol=1e-7, rtol=0)


def test_impossible_settings_are_refused_with_their_values() -> None:
    with pytest.raises(ValueError, match=r"betas=\(0\.0, 0\.9\)"):
        ScheduleFreeAdamW([torch.nn.Parameter(torch.ones(1))], betas=(0.0, 0.9))
