"""NAdamW in sequence: restarts at the right steps from the initial weights, and what survives them."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch

from perfbench.api.contracts.rehearsal import Rehearsal, differences, read_back
from perfbench.api.contracts.tiny_problems import TinyImages, TinyProblem, TinyRegression
from perfbench.api.optim import NAdamW
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from submissions.nadamw_sequential.submission import POINTS, Sequential

STEP_HINT = 10
ENDS = (10, 20, 28)  # 10, 10 and ceil(7.5) steps


def rehearsal_of(problem: TinyProblem, options: dict[str, Any] | None = None) -> Rehearsal:
    spec = compose_submission("nadamw_sequential").model_copy(update={"options": options or {}})
    return Rehearsal(submission_builder(spec, None), problem, seed=0, step_hint=STEP_HINT)


def submission_of(rehearsal: Rehearsal) -> Sequential:
    return cast("Sequential", rehearsal.submission)


def test_each_point_starts_a_fresh_optimizer() -> None:
    rehearsal = rehearsal_of(TinyRegression())

    for end, point in zip(ENDS, POINTS, strict=True):
        rehearsal.train(until=end)
        (group,) = submission_of(rehearsal).optimizers[0].param_groups
        assert group["num_updates"] == math.ceil(STEP_HINT * point.horizon_factor)
        assert group["weight_decay"] == point.weight_decay


def test_a_restart_takes_the_first_step_of_its_point_from_the_initial_weights() -> None:
    rehearsal = rehearsal_of(TinyRegression())
    rehearsal.train(until=ENDS[0] + 1)
    alone = rehearsal_of(TinyRegression())
    alone.num_batches = ENDS[0]
    submission = submission_of(alone)
    point = POINTS[1]
    submission.optimizers = [
        NAdamW(
            alone.model.parameters(),
            betas=(1 - point.one_minus_beta1, point.beta2),
            weight_decay=point.weight_decay,
        )
    ]
    submission.schedule = lambda _: point.learning_rate
    torch.set_rng_state(generator_after(ENDS[0]))
    alone.train(until=1)

    assert differences(rehearsal.weights(), alone.weights()) == []


def generator_after(num_steps: int) -> torch.Tensor:
    """Return the generator's state after some steps: dropout continues over a restart."""
    rehearsal = rehearsal_of(TinyRegression())
    rehearsal.train(until=num_steps)
    return torch.get_rng_state()


def test_training_is_complete_after_the_last_point() -> None:
    rehearsal = rehearsal_of(TinyRegression())

    rehearsal.train(until=1000)

    assert rehearsal.is_complete
    assert rehearsal.num_steps == ENDS[-1]


def test_batch_norm_statistics_are_carried_over_a_restart() -> None:
    rehearsal = rehearsal_of(TinyImages())
    rehearsal.train(until=ENDS[0] + 1)

    assert int(rehearsal.weights()["1.num_batches_tracked"]) == ENDS[0] + 1


@pytest.mark.parametrize("saved_at", [4, 10, 11, 15, 20, 27])
def test_it_resumes_bit_for_bit_before_at_and_after_every_restart(saved_at: int) -> None:
    uninterrupted = rehearsal_of(TinyImages())
    uninterrupted.train(until=saved_at)
    saved = uninterrupted.saved()
    uninterrupted.train(until=1000)

    resumed = rehearsal_of(TinyImages())
    resumed.train(until=3)
    resumed.restore(saved)
    resumed.train(until=1000)

    assert differences(read_back(uninterrupted.saved()), read_back(resumed.saved())) == []


def test_label_smoothing_is_off_as_run_and_listed_as_an_option() -> None:
    as_run, listed = rehearsal_of(TinyRegression()), rehearsal_of(TinyRegression(), {"label_smoothing": "listed"})
    seen = []
    for rehearsal in (as_run, listed):
        for until in (1, 11, 21):
            rehearsal.train(until=until)
            seen.append(submission_of(rehearsal).label_smoothing)

    assert seen == [0.0, 0.0, 0.0, 0.1, 0.2, 0.0]
