"""Options that several submissions share: as run by default, as intended on request."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyImages, TinyProblem, TinyRegression
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from perfbench.spec.submission import PointSpace


def started(name: str, problem: TinyProblem, **options: str) -> Rehearsal:
    """Return a run of the first point, if there are points, with options changed."""
    spec = compose_submission(name)
    spec = spec.model_copy(update={"options": {**spec.options, **options}})
    point = None if spec.search_space is None else cast("PointSpace", spec.search_space).points[0]
    return Rehearsal(submission_builder(spec, point), problem, seed=0, step_hint=100)


def weights_after(name: str, num_steps: int, **options: str) -> dict[str, Tensor]:
    rehearsal = started(name, TinyRegression(), **options)
    rehearsal.train(until=num_steps)
    return rehearsal.weights()


@pytest.mark.parametrize("name", ["baseline", "baseline_self_tuning", "nadamw_sequential"])
def test_the_first_moment_s_correction_is_an_option(name: str) -> None:
    by_default, as_run = weights_after(name, 4), weights_after(name, 4, first_moment="as_run")
    as_intended = weights_after(name, 4, first_moment="as_intended")

    assert all(torch.equal(by_default[key], as_run[key]) for key in as_run)
    assert any(not torch.equal(as_run[key], as_intended[key]) for key in as_run)


@pytest.mark.parametrize("name", ["schedule_free_adamw", "schedule_free_adamw_self_tuning"])
def test_batch_norm_statistics_are_collected_at_the_average_if_asked_for(name: str) -> None:
    runs = {choice: started(name, TinyImages(), batch_norm=choice) for choice in ("as_run", "as_intended")}
    for rehearsal in runs.values():
        for module in rehearsal.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # the pass of its own draws too: other units would be dropped afterwards
        rehearsal.train(until=3)

    states = {choice: rehearsal.model.state_dict() for choice, rehearsal in runs.items()}
    differing = {key for key, value in states["as_run"].items() if not torch.equal(value, states["as_intended"][key])}

    # A frozen forward pass counts its batch too; with a fixed momentum nothing reads that counter.
    assert differing == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}, "training does not see them"
