"""The self-tuning submissions of one point: check figures C27 to C31 and C46 of the specification, their options."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest
import torch
from pytorch_optimizer import AdamG, AdEMAMix, Lion
from torch.optim import Optimizer

from perfbench.api import GradientSubmission
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyRegression
from perfbench.api.horizon import AfterHorizon, warmup_cosine
from perfbench.api.optim import FirstMoment
from perfbench.compose import compose_run, compose_submission
from perfbench.registry import submission_builder
from submissions.cautious_nadamw.optimizer import CautiousNAdamW
from tests.unit.check_problems import trajectory, vector_problem

DECAYED: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1}
FIGURES = {
    "C27 AdamG": (
        lambda weights: AdamG([weights], lr=1.0, betas=(0.95, 0.999, 0.95), p=0.2, q=0.24),
        [
            [0.997507, -0.50098],
            [0.994725, -0.502072],
            [0.991576, -0.503308],
            [0.988061, -0.504687],
            [0.984193, -0.506203],
        ],
    ),
    "C28 AdEMAMix, nothing warms up": (
        lambda weights: AdEMAMix([weights], betas=(0.9, 0.99, 0.999), alpha=8.0, weight_decouple=True, **DECAYED),
        [
            [0.8892, -0.5958],
            [0.779374, -0.688679],
            [0.671153, -0.774454],
            [0.565345, -0.846151],
            [0.462958, -0.895214],
        ],
    ),
    "C29 AdEMAMix, ten steps of warm-up": (
        lambda weights: AdEMAMix(
            [weights], betas=(0.9, 0.99, 0.999), alpha=8.0, weight_decouple=True, t_alpha_beta3=10, **DECAYED
        ),
        [
            [0.889266, -0.595734],
            [0.778757, -0.689368],
            [0.668614, -0.777304],
            [0.559264, -0.852817],
            [0.451403, -0.906972],
        ],
    ),
    "C30 Lion": (
        lambda weights: Lion([weights], betas=(0.9, 0.99), **DECAYED),
        [
            [0.89, -0.595],
            [0.7811, -0.68905],
            [0.673289, -0.782159],
            [0.566556, -0.874338],
            [0.460891, -0.765595],
        ],
    ),
    "C31 Cautious NAdamW": (
        lambda weights: CautiousNAdamW([weights], betas=(0.9, 0.99), **DECAYED),
        [
            [0.8, -0.685],
            [0.65933, -0.785904],
            [0.540355, -0.842729],
            [0.335321, -0.834301],
            [0.249131, -0.815964],
            [0.175151, -0.776124],
            [0.11296, -0.72304],
            [0.11183, -0.608735],
        ],
    ),
}


@pytest.mark.parametrize(("optimizer", "expected"), FIGURES.values(), ids=FIGURES.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_takes_the_steps_of_the_entry(optimizer: Any, expected: list[list[float]], dtype: torch.dtype) -> None:
    weights, gradient = vector_problem(dtype)

    visited = trajectory(cast("Optimizer", optimizer(weights)), weights, gradient, num_steps=len(expected))

    torch.testing.assert_close(torch.tensor(visited), torch.tensor(expected), atol=2e-6, rtol=0)


def test_ademamix_warms_up_its_slow_momentum_as_the_entry() -> None:  # C46
    for step, alpha, beta3 in [(1, 0.8, 0.9908251712606212), (2, 1.6, 0.9951922005113578), (5, 4, 0.9980198048616123)]:
        assert AdEMAMix.schedule_alpha(10, step, 8.0) == pytest.approx(alpha)
        assert AdEMAMix.schedule_beta3(10, step, 0.9, 0.999) == pytest.approx(beta3, rel=5e-7)
    for step in (10, 11, 1000):
        assert (AdEMAMix.schedule_alpha(10, step, 8.0), AdEMAMix.schedule_beta3(10, step, 0.9, 0.999)) == (8, 0.999)
    for step, alpha, beta3 in [(100, 0.0016, 0.8147288741071376), (10_000, 0.16, 0.9777205784528927)]:
        assert AdEMAMix.schedule_alpha(500_000, step, 8.0) == pytest.approx(alpha)
        assert AdEMAMix.schedule_beta3(500_000, step, 0.8, 0.9995) == pytest.approx(beta3, rel=5e-7)


def test_a_cautious_mask_that_keeps_nothing_leaves_only_weight_decay() -> None:
    weights = torch.nn.Parameter(torch.ones(2000))
    optimizer = CautiousNAdamW([weights], lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)
    weights.grad = torch.zeros(2000)

    optimizer.step()

    assert torch.equal(weights, torch.full((2000,), 0.95))


def test_a_cautious_mask_is_not_kept_in_the_first_moment() -> None:
    """Without a look-ahead the direction is the first moment itself, which the mask must leave whole."""
    weights = torch.nn.Parameter(torch.zeros(2))
    optimizer = CautiousNAdamW([weights], lr=0.1, betas=(0.9, 0.99), first_moment=FirstMoment(nesterov=False))
    for gradient in ([1.0, 1.0], [1.0, -0.5]):  # the second one opposes the moment in one coordinate
        weights.grad = torch.tensor(gradient)
        optimizer.step()

    torch.testing.assert_close(optimizer.state[weights]["first_moment"], torch.tensor([0.19, 0.04]))


def test_a_cautious_update_is_scaled_up_by_at_most_a_thousand() -> None:
    # The momentum of the first step opposes the second gradient everywhere but in one of 4000 coordinates.
    weights = torch.nn.Parameter(torch.zeros(4000, dtype=torch.float64))
    optimizer = CautiousNAdamW([weights], lr=1.0, betas=(0.9, 0.9))
    weights.grad = torch.ones(4000, dtype=torch.float64)
    optimizer.step()
    before = weights.detach().clone()
    weights.grad = torch.full((4000,), -0.1, dtype=torch.float64)
    weights.grad[0] = 1.0

    optimizer.step()

    change = weights.detach() - before
    first = 0.9 * (0.9 * 0.1 + 0.1) + 0.1
    assert torch.equal(change[1:], torch.zeros(3999, dtype=torch.float64))
    assert change[0] == pytest.approx(-1000 * first / (1 - 0.9**2), rel=1e-6)


@pytest.mark.parametrize(
    ("after", "at_horizon", "later"),
    [(AfterHorizon.RISES_AGAIN, 1.0e-8, 0.51607483), (AfterHorizon.STAYS_AT_ZERO, 1.0e-8, 0.0)],
)
def test_the_cosine_of_adamg_rises_again_unless_told_otherwise(  # C47, criteo: 0.75 of 10 666 updates
    after: AfterHorizon, at_horizon: float, later: float
) -> None:
    rate = warmup_cosine(1.0, horizon=7999.5, warmup_factor=0.02, after=after)

    assert [rate(k) for k in (0, 1, 159, 4000)] == pytest.approx([1e-10, 0.00628931, 1, 0.51587459], abs=1e-8)
    assert rate(7999) == pytest.approx(at_horizon, abs=1e-9)
    assert rate(12_000) == pytest.approx(later, abs=1e-8)


def started(name: str, options: dict[str, Any], *, step_hint: int = 100) -> GradientSubmission:
    spec = compose_submission(name).model_copy(update={"options": options})
    rehearsal = Rehearsal(submission_builder(spec, None), TinyRegression(), seed=0, step_hint=step_hint)
    return cast("GradientSubmission", rehearsal.submission)


@pytest.mark.parametrize("name", ["lion", "ademamix", "adamg"])
def test_the_rate_after_the_horizon_is_an_option(name: str) -> None:
    as_run = started(name, {}).schedule
    as_intended = started(name, {"after_horizon": "stays_at_zero"}).schedule

    assert as_run is not None
    assert as_intended is not None
    assert as_run(50) == as_intended(50) > 0
    assert as_run(150) > 0
    assert as_intended(150) == 0


@pytest.mark.parametrize("name", ["baseline_self_tuning", "cautious_nadamw"])
def test_the_baselines_rate_is_zero_after_the_step_hint_and_the_whole_budget_is_an_option(name: str) -> None:
    run = compose_run([f"submission={name}"])
    assert run.ruleset.kind == "self_tuning"
    assert run.submission.search_space is None
    as_run = started(name, {}).schedule

    assert as_run is not None
    assert as_run(0) == 0
    assert as_run(2) == 0.0017486387539278373  # 2 % of 100
    assert as_run(99) > 0
    assert as_run(100) == as_run(299) == 0

    whole_budget = started(name, {"horizon": "budget"}).schedule  # the rehearsal's budget is its step hint
    assert whole_budget is not None
    assert whole_budget(50) == as_run(50)
    context = dataclasses.replace(started(name, {}).context, max_steps=300)
    spec = compose_submission(name).model_copy(update={"options": {"horizon": "budget"}})
    longer = cast("GradientSubmission", submission_builder(spec, None)(context)).schedule
    assert longer is not None
    assert longer(6) == 0.0017486387539278373
    assert longer(299) > 0


def test_ademamix_clips_and_its_slow_momentum_can_warm_up_within_the_step_hint() -> None:
    as_run, as_in_the_paper = started("ademamix", {}), started("ademamix", {"mixing_warmup": "step_hint"})

    assert as_run.max_grad_norm == 0.5
    assert as_run.optimizers[0].param_groups[0]["t_alpha_beta3"] == 500_000
    assert as_in_the_paper.optimizers[0].param_groups[0]["t_alpha_beta3"] == 100
