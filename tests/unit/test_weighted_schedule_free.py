"""Weighted Schedule-Free AdamW against check figures C21 and C22 of the specification, and the formulas written out."""

from __future__ import annotations

import copy
from typing import cast

import pytest
import torch

from perfbench.api import Batch, LossSums
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyImages
from perfbench.api.optim import ScheduleFreeSubmission, ScheduleFreeVariant, StatisticsPass
from perfbench.api.schedules import WarmupConstant
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from perfbench.spec.submission import PointSpace
from submissions.weighted_schedule_free_adamw.optimizer import WeightedScheduleFreeAdamW
from tests.unit.check_problems import vector_problem

C21_AS_SUBMITTED = [
    [0.945000, -0.547500],
    [0.875408, -0.602420],
    [0.838952, -0.625846],
    [0.805379, -0.645724],
    [0.773432, -0.662979],
]
C22_FULL_PRECISION = [
    [0.945000, -0.547500],
    [0.875469, -0.602355],
    [0.839021, -0.625846],
    [0.805615, -0.645810],
    [0.773816, -0.663202],
]


def optimizer_of(*weights: torch.nn.Parameter, dtype: torch.dtype) -> WeightedScheduleFreeAdamW:
    variant = ScheduleFreeVariant(step_power=1.0, uses_highest_rate=False, second_moment_dtype=dtype)
    return WeightedScheduleFreeAdamW(weights, lr=0.1, betas=(0.9, 0.99), weight_decay=0.1, variant=variant)


@pytest.mark.parametrize(
    ("dtype", "expected"), [(torch.bfloat16, C21_AS_SUBMITTED), (torch.float32, C22_FULL_PRECISION)]
)
def test_it_takes_the_steps_of_the_entry(dtype: torch.dtype, expected: list[list[float]]) -> None:
    weights, gradient = vector_problem()
    optimizer, schedule = optimizer_of(weights, dtype=dtype), WarmupConstant(peak=0.1, warmup=2)
    averages = []
    for k in range(5):
        optimizer.param_groups[0]["lr"] = schedule(k)
        optimizer.extrapolate()
        weights.grad = gradient(weights.detach())
        optimizer.step()
        averages.append(weights.detach().clone())

    torch.testing.assert_close(torch.stack(averages), torch.tensor(expected), atol=2e-6, rtol=0)


def test_a_longer_run_with_a_changing_rate_agrees_with_the_formulas_written_out() -> None:
    weights, gradient = vector_problem(torch.float64)
    optimizer = optimizer_of(weights, dtype=torch.float64)
    initial = weights.detach().clone()
    x, z, s, v, total = initial, initial, torch.zeros(2), torch.zeros(2), 0.0
    for t in range(1, 21):
        rate = 0.1 / (1 + t % 3)
        y = 0.9 * x + 0.1 * z
        g = gradient(y)
        v = 0.99 * v + 0.01 * g * g
        s = s + t * rate * (g / ((v / (1 - 0.99**t)).sqrt() + 1e-8) + 0.1 * y)
        z = initial - s / t
        total += t * rate**2
        x = x + t * rate**2 / total * (z - x)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.extrapolate()
        weights.grad = gradient(weights.detach())
        optimizer.step()

    torch.testing.assert_close(weights.detach(), x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_weight_carries_the_rounding_of_its_initial_value_only_with_buffers_in_bfloat16(dtype: torch.dtype) -> None:
    weights = torch.nn.Parameter(torch.tensor([0.1, 1.001]))
    before = weights.detach().clone()
    optimizer = optimizer_of(weights, dtype=dtype)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    optimizer.extrapolate()
    weights.grad = torch.zeros(2)
    optimizer.step()

    assert torch.equal(weights.detach(), before.to(dtype).float())
    assert torch.equal(weights.detach(), before) is (dtype is torch.float32)


def test_buffers_in_bfloat16_are_still_so_after_a_resume() -> None:
    weights, gradient = vector_problem()
    optimizer = optimizer_of(weights, dtype=torch.bfloat16)
    optimizer.extrapolate()
    weights.grad = gradient(weights.detach())
    optimizer.step()
    resumed_weights = torch.nn.Parameter(weights.detach().clone())
    resumed = optimizer_of(resumed_weights, dtype=torch.bfloat16)

    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    dtypes = {name: tensor.dtype for name, tensor in resumed.state[resumed_weights].items()}
    low, full = torch.bfloat16, torch.float32
    assert dtypes == {"iterate": full, "step_sum": full, "second_moment": low, "initial": low}


def test_a_parameter_without_gradient_comes_back_to_the_average() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.full((2,), 1.001))
    optimizer = optimizer_of(used, unused, dtype=torch.bfloat16)
    for _ in range(3):
        optimizer.extrapolate()
        used.grad = torch.ones(2)
        optimizer.step()

    assert torch.equal(unused, torch.full((2,), 1.001))


def rehearsal_of(problem: TinyImages, *, point: int, step_hint: int, **options: str) -> Rehearsal:
    spec = compose_submission("weighted_schedule_free_adamw")
    assert isinstance(spec.search_space, PointSpace)
    changed = spec.model_copy(update={"options": {**spec.options, **options}})
    return Rehearsal(submission_builder(changed, spec.search_space.points[point]), problem, seed=0, step_hint=step_hint)


@pytest.mark.parametrize(
    ("statistics_pass", "forwards"),
    [
        (StatisticsPass.AS_RUN, [1, 2, 2, 1, 2, 2]),
        (StatisticsPass.ONE_OF_THREE, [2, 1, 1, 2, 1, 1]),
        (StatisticsPass.NEVER, [1] * 6),
    ],
)
def test_batch_norm_costs_an_extra_forward_pass_on_the_steps_of_the_option(
    statistics_pass: StatisticsPass, forwards: list[int]
) -> None:
    problem = CountedImages()
    rehearsal = rehearsal_of(problem, point=0, step_hint=20, statistics_pass=statistics_pass.value)
    seen = []
    for step in range(1, 7):
        before = problem.num_forwards
        rehearsal.train(until=step)
        seen.append(problem.num_forwards - before)

    assert seen == forwards


class CountedImages(TinyImages):
    """Counts its forward passes."""

    num_forwards = 0

    def loss(self, model: torch.nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        self.num_forwards += 1
        return super().loss(model, batch, label_smoothing=label_smoothing)


def test_the_warm_up_is_a_part_of_three_quarters_of_the_budget() -> None:
    rehearsal = rehearsal_of(TinyImages(), point=4, step_hint=1000)
    schedule = cast("ScheduleFreeSubmission", rehearsal.submission).schedule
    assert schedule is not None

    assert schedule(0) == pytest.approx(0.004 / 15)
    assert schedule(13) < schedule(14) == schedule(15) == 0.004
