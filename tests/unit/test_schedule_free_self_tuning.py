"""When the self-tuning Schedule-Free entry starts again, and from what."""

from __future__ import annotations

import dataclasses

import torch

from perfbench.api import Submission, TrainingContext
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyRegression
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from perfbench.spec.result import Measurement, PhaseTimes


def rehearsal_with(measurements: list[Measurement]) -> Rehearsal:
    build = submission_builder(compose_submission("schedule_free_adamw_self_tuning"), None)

    def observed(context: TrainingContext) -> Submission:
        return build(dataclasses.replace(context, measurements=measurements))

    return Rehearsal(observed, TinyRegression(), seed=0, step_hint=1000)


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
