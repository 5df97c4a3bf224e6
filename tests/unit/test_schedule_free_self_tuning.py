"""The self-tuning Schedule-Free entries: their one setting; when the first starts again, and from what."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest
import torch
from torch import Tensor

from perfbench.api import Submission, TrainingContext
from perfbench.api.contracts.rehearsal import Rehearsal, differences
from perfbench.api.contracts.tiny_problems import TinyClicks, TinyProblem, TinyRegression
from perfbench.api.optim import ScheduleFreeSubmission
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from perfbench.spec.result import Measurement, PhaseTimes
from tests.unit.check_problems import without_dropout

RATE, WARMUP = 0.0025, 15
"""The setting's rate, and its warm-up at a step hint of 1000."""


def rehearsal_with(
    measurements: list[Measurement], *, step_hint: int = 1000, device: str = "cpu", **options: str
) -> Rehearsal:
    spec = compose_submission("schedule_free_adamw_self_tuning")
    build = submission_builder(spec.model_copy(update={"options": {**spec.options, **options}}), None)

    def observed(context: TrainingContext) -> Submission:
        return build(dataclasses.replace(context, measurements=measurements, device=torch.device(device)))

    return Rehearsal(observed, TinyRegression(), seed=0, step_hint=step_hint)


def measured(loss: float, step: int) -> Measurement:
    return Measurement(
        attempt=1,
        step=step,
        submission_time_s=float(step),
        metrics={"validation/loss": loss},
        phases=PhaseTimes(),
        wall_time_utc="",
    )


def rate_of(rehearsal: Rehearsal, *, until: int) -> float:
    report = rehearsal.train(until=until)
    assert report is not None
    assert report.learning_rate is not None
    return report.learning_rate


def test_four_evaluations_without_gain_put_the_initial_weights_back_and_halve_the_rate() -> None:
    measurements: list[Measurement] = []
    rehearsal = rehearsal_with(measurements)
    initial = rehearsal.weights()
    assert rate_of(rehearsal, until=150) == 0.0025
    measurements += [measured(0.5, step) for step in (1, 50, 100, 150)]

    first_rate = rate_of(rehearsal, until=151)

    assert first_rate == 0.00125 / 15, "the warm-up begins again"
    furthest = max(float((tensor - initial[name]).abs().max()) for name, tensor in rehearsal.weights().items())
    assert furthest <= 2 * first_rate
    assert rate_of(rehearsal, until=200) == 0.00125, "no new evaluation, no new start"


def test_neither_gains_nor_an_early_step_lead_to_a_restart() -> None:
    gaining = [measured(loss, step) for step, loss in enumerate((0.5, 0.4, 0.4, 0.4))]
    assert rate_of(rehearsal_with(gaining), until=150) == 0.0025

    flat = [measured(0.5, step) for step in range(4)]
    early = rehearsal_with(flat)
    assert rate_of(early, until=90) == 0.0025
    assert torch.isfinite(torch.tensor(early.evaluate()))


@pytest.mark.parametrize(
    ("losses", "restarts_as_run", "restarts_as_intended"),
    [
        # The target of the rehearsal is a loss of 0: the way from 20 is 20 long, and 0.2 of it are nothing.
        ((20.0, 19.9, 19.85, 19.84), False, True),
        ((20.0, 19.9, 19.85, 19.79), False, False),
        ((20.0, 20.4, 20.2, 19.9), False, False),
        # The way from 0.05 is so short that 0.0005 of it are something.
        ((0.05, 0.046, 0.043, 0.041), True, False),
        ((0.05, 0.0499, 0.0498, 0.0497), True, True),
    ],
)
def test_the_margin_is_in_units_of_the_metric_or_a_part_of_the_way_to_the_target(
    losses: tuple[float, ...], restarts_as_run: bool, restarts_as_intended: bool
) -> None:
    for options, restarts in (
        ({}, restarts_as_run),
        ({"margin": "in_metric_units"}, restarts_as_run),
        ({"margin": "of_way_to_target"}, restarts_as_intended),
    ):
        measurements: list[Measurement] = []
        rehearsal = rehearsal_with(measurements, step_hint=100, **options)  # without warm-up
        rehearsal.train(until=12)
        measurements += [measured(loss, step) for step, loss in enumerate(losses)]

        assert rate_of(rehearsal, until=13) == (RATE / 2 if restarts else RATE), options


def restarted_from(rehearsal: Rehearsal, measurements: list[Measurement]) -> dict[str, Tensor]:
    """Return the weights whose first step, after a restart, leads to where the run is; the step is done here.

    In a first step ``v = (1 - b2) g^2`` and the average is the iterate, so with ``r = sqrt(1 - b2)`` the weights go
    from ``w`` to ``w - lr r g / (r |g| + eps) - lr r decay w``.
    """
    measurements += [measured(0.5, step) for step in range(4)]
    rehearsal.train(until=rehearsal.num_steps + 1)
    root = (1 - 0.9955159689799007) ** 0.5
    rate = RATE / 2 * root
    origins = {}
    for name, parameter in rehearsal.model.named_parameters():
        gradient = cast("Tensor", parameter.grad)
        way = rate * gradient / (root * gradient.abs() + 1e-8)
        origins[name] = (parameter.detach() + way) / (1 - rate * 0.08121616522670176)
    return origins


@pytest.mark.parametrize(
    ("options", "device", "goes_back"),
    [
        ({}, "cpu", True),
        ({"initial_weights": "copied"}, "cpu", True),
        ({"initial_weights": "aliased_on_cpu"}, "cpu", False),
        # Only the name: on a device with memory of its own even the entry's file has a copy.
        ({"initial_weights": "aliased_on_cpu"}, "cuda", True),
    ],
)
def test_a_restart_leaves_the_weights_where_they_are_if_the_initial_ones_are_an_alias(
    options: dict[str, str], device: str, goes_back: bool
) -> None:
    measurements: list[Measurement] = []
    rehearsal = rehearsal_with(measurements, step_hint=100, device=device, second_moment="as_intended", **options)
    initial = rehearsal.weights()
    rehearsal.train(until=30)
    trained = rehearsal.weights()

    found = restarted_from(rehearsal, measurements)

    for name, weights in found.items():
        torch.testing.assert_close(weights, (initial if goes_back else trained)[name], atol=1e-6, rtol=0)
        assert float((initial[name] - trained[name]).abs().max()) > RATE


def test_an_alias_is_one_after_a_resume_too() -> None:
    runs = []
    for _ in range(2):
        measurements: list[Measurement] = []
        runs.append((rehearsal_with(measurements, step_hint=100, initial_weights="aliased_on_cpu"), measurements))
    (rehearsal, seen), (resumed, seen_later) = runs
    rehearsal.train(until=30)
    saved = rehearsal.saved()
    expected = restarted_from(rehearsal, seen)
    resumed.restore(saved)

    assert differences(expected, restarted_from(resumed, seen_later)) == []


def second_entry(problem: TinyProblem, **options: str) -> Rehearsal:
    """Return a run of the second entry without dropout."""
    spec = compose_submission("schedule_free_adamw_v2_self_tuning")
    build = submission_builder(spec.model_copy(update={"options": {**spec.options, **options}}), None)
    rehearsal = Rehearsal(build, problem, seed=0, step_hint=1000)
    without_dropout(rehearsal.model)
    return rehearsal


def test_the_second_entry_takes_the_steps_of_its_formulas_at_its_setting() -> None:
    """On a problem whose loss has labels to smooth; the gradient comes from a twin of the model."""
    problem = TinyClicks()
    rehearsal = second_entry(problem)
    twin = without_dropout(problem.build_model(seed=0))
    parameters = dict(twin.named_parameters())
    x = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    z, v = dict(x), {name: torch.zeros_like(weights) for name, weights in x.items()}
    total, beta2 = 0.0, 0.9955159689799007
    for k in range(25):
        y = {name: 0.9 * x[name] + 0.1 * z[name] for name in x}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(y[name])
        twin.zero_grad()
        sums = problem.loss(twin, problem.batch(k), label_smoothing=0.2)
        (sums.summed / sums.num_valid).backward()
        rate = RATE * min((k + 1) / WARMUP, 1.0)
        corrected = rate * (1 - beta2 ** (k + 1)) ** 0.5
        total += rate**2
        for name, parameter in parameters.items():
            g = cast("Tensor", parameter.grad)
            v[name] = beta2 * v[name] + (1 - beta2) * g * g
            z[name] = z[name] - corrected * (0.08121616522670176 * y[name] + g / (v[name].sqrt() + 1e-8))
            x[name] = x[name] + rate**2 / total * (z[name] - x[name])

    rehearsal.train(until=25)

    for name, parameter in rehearsal.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), x[name], atol=2e-6, rtol=1e-4)


def test_the_second_entry_never_starts_again() -> None:
    rehearsal = second_entry(TinyRegression())

    assert type(rehearsal.submission) is ScheduleFreeSubmission
    assert [rate_of(rehearsal, until=step) for step in (1, WARMUP, 150)] == [RATE / WARMUP, RATE, RATE]
