"""Options that several submissions share: as run by default, as intended on request."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from perfbench.api import GradientSubmission
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyImages, TinyProblem, TinyRegression
from perfbench.api.optim import FirstMoment, MomentCorrection
from perfbench.compose import compose_submission
from perfbench.registry import repository_root, submission_builder, submission_names
from perfbench.spec.base import Spec
from perfbench.spec.submission import PointSpace
from submissions.caspr_adaptive.matrices import MatrixView
from submissions.caspr_adaptive.optimizer import CasprAdaptive, CasprSettings
from submissions.cautious_nadamw.optimizer import CautiousNAdamW
from tests.unit.check_problems import without_dropout

spec_of = cache(compose_submission)


def started(name: str, problem: TinyProblem, *, point: int = 0, **options: str) -> Rehearsal:
    """Return a run of a point (the first), if there are points, with options changed."""
    spec = spec_of(name)
    spec = spec.model_copy(update={"options": {**spec.options, **options}})
    chosen = None if spec.search_space is None else cast("PointSpace", spec.search_space).points[point]
    return Rehearsal(submission_builder(spec, chosen), problem, seed=0, step_hint=100)


def weights_after(name: str, num_steps: int, **options: str) -> dict[str, Tensor]:
    rehearsal = started(name, TinyRegression(), point=-1, **options)  # generalized_adam's first is no NAdamW
    rehearsal.train(until=num_steps)
    return rehearsal.weights()


def options_of(name: str) -> set[str]:
    module = importlib.import_module(f"submissions.{name}.submission")
    options = getattr(module, "Options", None)
    return set() if options is None else set(cast("type[Spec]", options).model_fields)


WITH_OPTIONS = [name for name in submission_names() if options_of(name)]


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_every_option_stands_in_the_configuration_and_in_the_readme(name: str) -> None:
    readme = (repository_root() / "submissions" / name / "README.md").read_text(encoding="utf-8")

    assert set(spec_of(name).options) == options_of(name)
    assert {option for option in options_of(name) if option not in readme} == set()


NADAMW = {name for name in WITH_OPTIONS if "first_moment" in options_of(name)}


def test_every_entry_that_is_a_nadamw_has_the_option() -> None:
    assert len(NADAMW) == 10


@pytest.mark.parametrize("name", sorted(NADAMW))
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


@pytest.mark.parametrize("name", ["cyclic_lr", "lawa_queue", "lawa_ema"])
def test_the_first_update_is_at_the_peak_rate_unless_told_otherwise(name: str) -> None:
    rates = []
    for options in ({}, {"first_update": "as_run"}, {"first_update": "as_intended"}):
        report = started(name, TinyRegression(), point=1, **options).train(until=1)
        assert report is not None
        rates.append(report.learning_rate)

    peak = cast("PointSpace", spec_of(name).search_space).points[1]["learning_rate"]
    assert rates == [peak, peak, 1e-10]


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("schedule_free_adamw_v2", {}, [0, 1, 1, 0, 1, 1]),
        ("schedule_free_adamw_v2", {"statistics_pass": "one_step_of_three"}, [1, 0, 0, 1, 0, 0]),
        ("schedule_free_adamw_v2", {"statistics_pass": "every_step"}, [1] * 6),
        ("weighted_schedule_free_adamw", {}, [0, 1, 1, 0, 1, 1]),
        ("weighted_schedule_free_adamw", {"statistics_pass": "every_step"}, [1] * 6),
        ("schedule_free_adamw_v2_self_tuning", {}, [1, 0, 0, 1, 0, 0]),
        ("schedule_free_adamw_v2_self_tuning", {"statistics_pass": "as_intended"}, [1] * 6),
    ],
)
def test_batch_norm_statistics_are_the_average_s_on_the_steps_of_the_option(
    name: str, options: dict[str, str], passes: list[int]
) -> None:
    problem = TinyImages()
    rehearsal = started(name, problem, point=0, **options)
    convolution, norm, *_ = cast("nn.Sequential", rehearsal.model)
    expected = torch.zeros(6)
    for step, num_passes in enumerate(passes):
        with torch.no_grad():  # at the average, which the model holds between steps
            mean = convolution(problem.batch(step)["inputs"]).mean(dim=(0, 2, 3))
        expected = 0.9 * expected + 0.1 * mean if num_passes else expected

        rehearsal.train(until=step + 1)

        torch.testing.assert_close(norm.running_mean, expected)


@pytest.mark.parametrize(("choice", "dtype"), [("as_run", torch.bfloat16), ("as_intended", torch.float32)])
def test_the_buffers_of_the_option_reach_the_optimizer(choice: str, dtype: torch.dtype) -> None:
    rehearsal = started("weighted_schedule_free_adamw", TinyRegression(), buffers=choice)
    rehearsal.train(until=1)
    state = optimizer_of(rehearsal).state

    assert {state[parameter]["initial"].dtype for parameter in rehearsal.model.parameters()} == {dtype}
    assert {state[parameter]["second_moment"].dtype for parameter in rehearsal.model.parameters()} == {dtype}


@pytest.mark.parametrize(("choice", "is_guarded"), [("as_run", False), ("guarded", True)])
def test_the_guard_of_the_graft_reaches_the_optimizer(choice: str, is_guarded: bool) -> None:
    rehearsal = started("caspr_adaptive", TinyRegression(), graft=choice)

    assert cast("CasprAdaptive", optimizer_of(rehearsal)).settings.graft_is_guarded is is_guarded


def optimizer_of(rehearsal: Rehearsal) -> Optimizer:
    return cast("GradientSubmission", rehearsal.submission).optimizers[0]
