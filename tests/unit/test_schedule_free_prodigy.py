"""Schedule-Free Prodigy against check figures C25 and C26 of the specification."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from perfbench.api.contracts.rehearsal import Rehearsal, differences
from perfbench.api.contracts.tiny_problems import TinyImages, TinyProblem, TinyRegression
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from submissions.schedule_free_prodigy.optimizer import ScheduleFreeProdigy
from tests.unit.check_problems import vector_problem, without_dropout

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


@pytest.mark.parametrize("mixes_distances", [True, False])
def test_a_step_mixes_both_estimates_or_has_the_old_one_only(mixes_distances: bool) -> None:
    weights, gradient = vector_problem(torch.float64)
    optimizer = ScheduleFreeProdigy(
        [weights], weight_decay=0.1, buffer_dtype=torch.float64, mixes_distances=mixes_distances
    )
    x = z = initial = weights.detach().clone()
    v = s = torch.zeros(2, dtype=torch.float64)
    d, numerator, total = 1e-6, 0.0, 0.0
    seen_growth = 1.0
    for t in range(1, 13):
        rate = min(t / 3, 1.0)
        g = gradient(0.9 * x + 0.1 * z)
        numerator = 0.9955**0.5 * numerator + d * d * rate * float(g @ (initial - z))
        v = 0.9955 * v + (1 - 0.9955) * d * d * g * g
        s = 0.9955**0.5 * s + d * d * rate * g
        new = max(d, numerator / float(s.abs().sum()))
        factor = new if mixes_distances else d
        z = z - 0.1 * d * rate * x - factor * d * rate * g / (v.sqrt() + factor * 1e-8)
        total += t**0.75
        x = x + t**0.75 / total * (z - x)
        seen_growth = max(seen_growth, new / d)
        d = new

        optimizer.param_groups[0]["lr"] = rate
        optimizer.extrapolate()
        weights.grad = gradient(weights.detach())
        optimizer.step()

        torch.testing.assert_close(weights.detach(), x, rtol=1e-9, atol=0)
        assert float(optimizer.distance) == pytest.approx(d, rel=1e-9)
    assert seen_growth > 2, "otherwise the two versions are the same"


def started(problem: TinyProblem, **options: str) -> Rehearsal:
    """Return a run without weight decay and dropout; what no option is given for is as in the configuration."""
    spec = compose_submission("schedule_free_prodigy")
    spec = spec.model_copy(update={"options": {**spec.options, **options}})
    rehearsal = Rehearsal(submission_builder(spec, {"weight_decay": 0.0}), problem, seed=0, step_hint=100)
    without_dropout(rehearsal.model)
    return rehearsal


def optimizer_of(rehearsal: Rehearsal) -> ScheduleFreeProdigy:
    return cast("ScheduleFreeProdigy", vars(rehearsal.submission)["optimizer"])


@pytest.mark.parametrize("options", [{}, {"buffers": "as_run"}, {"buffers": "as_intended"}])
def test_rounded_initial_weights_give_an_estimate_before_there_was_a_step(options: dict[str, str]) -> None:
    """The sum of ``g (p0 - z)`` in the first step: zero, but for the rounding of ``p0``."""
    problem = TinyRegression()
    rehearsal = started(problem, **options)
    twin = without_dropout(problem.build_model(seed=0))
    sums = problem.loss(twin, problem.batch(0))
    (sums.summed / sums.num_valid).backward()
    noise = sum(
        float((parameter.grad * (parameter.detach().bfloat16().float() - parameter.detach())).double().sum())
        for parameter in twin.parameters()
        if parameter.grad is not None
    )
    rate = 1 / 7  # the warm-up is 0.075 of 100 steps
    expected = 0.0 if options.get("buffers") == "as_intended" else 1e-6**2 * rate * noise

    rehearsal.train(until=1)

    assert noise != 0
    assert float(optimizer_of(rehearsal).numerator) == pytest.approx(expected, rel=1e-3, abs=0)


@pytest.mark.parametrize(
    ("options", "num_passes"), [({}, 2), ({"evaluations": "as_run"}, 2), ({"evaluations": "as_intended"}, 1)]
)
def test_a_step_evaluates_the_model_twice_unless_told_otherwise(options: dict[str, str], num_passes: int) -> None:
    """Batch norm saw the first batch once or twice: at the average, and at the gradient point, which is still there."""
    problem = TinyImages()
    rehearsal = started(problem, **options)
    convolution, norm, *_ = cast("nn.Sequential", rehearsal.model)
    with torch.no_grad():
        mean = convolution(problem.batch(0)["inputs"]).mean(dim=(0, 2, 3))

    rehearsal.train(until=1)

    assert int(cast("torch.Tensor", norm.num_batches_tracked)) == num_passes
    torch.testing.assert_close(norm.running_mean, mean * (1 - 0.9**num_passes))


def test_the_option_of_the_estimates_reaches_the_optimizer() -> None:
    runs = [started(TinyRegression(), buffers="as_intended", distances=choice) for choice in ("as_run", "as_intended")]
    runs.append(started(TinyRegression(), buffers="as_intended"))
    for num_steps, is_apart in ((1, False), (4, True)):
        for rehearsal in runs:
            rehearsal.train(until=num_steps)
        as_run, as_intended, by_default = (rehearsal.weights() for rehearsal in runs)

        assert differences(as_run, by_default) == []
        assert bool(differences(as_run, as_intended)) is is_apart, "the first step has one estimate only"
