"""Options that several submissions share: as run by default, as intended on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyImages, TinyProblem, TinyRegression
from perfbench.api.optim import FirstMoment, MomentCorrection
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from perfbench.spec.submission import PointSpace
from submissions.caspr_adaptive.matrices import MatrixView
from submissions.caspr_adaptive.optimizer import CasprAdaptive, CasprSettings
from submissions.cautious_nadamw.optimizer import CautiousNAdamW
from tests.unit.check_problems import without_dropout


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


@pytest.mark.parametrize(
    "name", ["baseline", "baseline_self_tuning", "nadamw_sequential", "cautious_nadamw", "caspr_adaptive"]
)
def test_the_first_moment_s_correction_is_an_option(name: str) -> None:
    by_default, as_run = weights_after(name, 4), weights_after(name, 4, first_moment="as_run")
    as_intended = weights_after(name, 4, first_moment="as_intended")

    assert all(torch.equal(by_default[key], as_run[key]) for key in as_run)
    assert any(not torch.equal(as_run[key], as_intended[key]) for key in as_run)


def cautious(weights: nn.Parameter, correction: MomentCorrection) -> Optimizer:
    return CautiousNAdamW([weights], lr=0.1, betas=(0.9, 0.99), first_moment=FirstMoment(correction=correction))


def caspr(weights: nn.Parameter, correction: MomentCorrection) -> Optimizer:
    """Preconditioned from the first update on, so that its length, but not its direction, is NAdamW's."""
    settings = CasprSettings(betas=(0.9, 0.99), weight_decay=0.0, first_preconditioned=1, first_moment=correction)
    return CasprAdaptive({"w": weights}, {"w": MatrixView((0, 1), 2)}, settings, lr=0.1)


@pytest.mark.parametrize("optimizer_of", [cautious, caspr])
@pytest.mark.parametrize(
    ("correction", "lengths"),
    [
        # With a gradient that stays the same, m / g is 1 - b1^t, and its look-ahead 1 - b1^(t + 1).
        (MomentCorrection.AS_RUN, [1.9, (1 - 0.9**3) / (1 - 0.9**2)]),
        (MomentCorrection.AS_INTENDED, [1.0, 1.0]),
    ],
)
def test_the_relatives_of_nadamw_take_first_steps_of_its_length(
    optimizer_of: Callable[[nn.Parameter, MomentCorrection], Optimizer],
    correction: MomentCorrection,
    lengths: list[float],
) -> None:
    weights = nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
    optimizer = optimizer_of(weights, correction)
    for length in lengths:
        before = weights.detach().clone()
        weights.grad = torch.tensor([[3.0, -1.0, 0.5], [-2.0, 0.25, 1.0]], dtype=torch.float64)
        optimizer.step()

        # The root mean square, as a part of the rate; without weight decay all coordinates of NAdamW's are as long.
        assert float((weights.detach() - before).norm()) / 6**0.5 / 0.1 == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("name", ["schedule_free_adamw", "schedule_free_adamw_self_tuning"])
def test_batch_norm_statistics_are_collected_at_the_average_if_asked_for(name: str) -> None:
    runs = {choice: started(name, TinyImages(), batch_norm=choice) for choice in ("as_run", "as_intended")}
    for rehearsal in runs.values():
        without_dropout(rehearsal.model)  # the pass of its own draws too: other units would be dropped afterwards
        rehearsal.train(until=3)

    states = {choice: rehearsal.model.state_dict() for choice, rehearsal in runs.items()}
    differing = {key for key, value in states["as_run"].items() if not torch.equal(value, states["as_intended"][key])}

    # A frozen forward pass counts its batch too; with a fixed momentum nothing reads that counter.
    assert differing == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}, "training does not see them"
