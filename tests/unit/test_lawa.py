"""LAWA against check figure C45 of the specification and its table of snapshot times; the averages themselves."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from perfbench.api import Batch, GradientSubmission, LossType
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyProblem
from perfbench.api.optim import SnapshotTimes
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from submissions.lawa_ema.submission import ExponentialAverage
from submissions.lawa_queue.submission import SnapshotQueue

C45 = [  # evaluated weights, live weights; two steps lie between rows
    ([0.729665, -0.735452], [0.729665, -0.735452]),
    ([0.495869, -0.852946], [0.495869, -0.852946]),
    ([0.502397, -0.836105], [0.315684, -0.841260]),
    ([0.322091, -0.833266], [0.186504, -0.763861]),
    ([0.192431, -0.762591], [0.104329, -0.674501]),
    ([0.109001, -0.676360], [0.059358, -0.599027]),
    ([0.062439, -0.601991], [0.039130, -0.546684]),
]
C45_RATES = [0.1, 0.096985, 0.088302, 0.075, 0.058682, 0.041318, 0.025]
POINT = {
    "learning_rate": 0.1,
    "one_minus_beta1": 0.1,
    "beta2": 0.99,
    "weight_decay": 0.1,
    "warmup_factor": 0.1,
    "label_smoothing": 0.0,
    "dropout_rate": 0.0,
    "lawa_start_factor": 0.1,
    "lawa_interval_scaling": 0.1,
}


class Quadratic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -0.5]))

    def forward(self, inputs: Tensor) -> Tensor:
        hessian, linear = torch.tensor([[2.0, 0.3], [0.3, 0.5]]), torch.tensor([-0.1, 0.2])
        loss = 0.5 * self.weight @ hessian @ self.weight + linear @ self.weight
        return loss.expand(len(inputs))


class ProblemV(TinyProblem):
    name = "problem_v"
    loss_type = LossType.MEAN_SQUARED_ERROR

    def build_model(self, *, seed: int) -> nn.Module:
        return nn.Sequential(Quadratic())

    def examples(self, generator: torch.Generator) -> Batch:
        return {"inputs": torch.zeros(16), "targets": torch.zeros(16)}

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        return outputs


def rehearsal_of(name: str, options: dict[str, str] | None = None, **point: float) -> Rehearsal:
    spec = compose_submission(name)
    spec = spec.model_copy(update={"options": {**spec.options, **(options or {})}})
    builder = submission_builder(spec, {**POINT, **point})
    return Rehearsal(builder, ProblemV(), seed=0, step_hint=20)


def test_the_queue_returns_and_trains_the_published_weights() -> None:
    rehearsal = rehearsal_of("lawa_queue", k=2)
    schedule = cast("GradientSubmission", rehearsal.submission).schedule
    assert schedule is not None
    for call, ((expected, live), rate) in enumerate(zip(C45, C45_RATES, strict=True), start=1):
        rehearsal.train(until=2 * call)
        assert schedule(2 * call) == pytest.approx(rate, abs=1e-6)  # of the next update
        evaluated = rehearsal.submission.prepare_for_eval().state_dict()["0.weight"].clone()
        rehearsal.submission.resume_training()

        torch.testing.assert_close(evaluated, torch.tensor(expected), atol=2e-6, rtol=0)
        torch.testing.assert_close(rehearsal.weights()["0.weight"], torch.tensor(live), atol=2e-6, rtol=0)


def test_the_exponential_average_as_run_returns_the_live_weights_where_a_snapshot_was_just_taken() -> None:
    rehearsal = rehearsal_of("lawa_ema", lawa_start_factor=0.15, lawa_beta=0.2)
    for call, (_, live) in enumerate(C45, start=1):
        rehearsal.train(until=2 * call)
        evaluated = rehearsal.submission.prepare_for_eval().state_dict()["0.weight"].clone()
        rehearsal.submission.resume_training()

        torch.testing.assert_close(evaluated, torch.tensor(live), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("options", "decay"), [({}, 0.0), ({"average": "as_run"}, 0.0), ({"average": "as_intended"}, 0.2)]
)
def test_the_decay_of_the_exponential_average_is_a_whole_number_unless_told_otherwise(
    options: dict[str, str], decay: float
) -> None:
    """Snapshots are taken after updates 3, 5, 7, ... counted from 1."""
    rehearsal = rehearsal_of("lawa_ema", options, lawa_beta=0.2)
    expected = None
    for step in range(1, 13):
        rehearsal.train(until=step)
        live = rehearsal.weights()["0.weight"]
        if step >= 3 and step % 2 == 1:
            expected = live if expected is None else decay * expected + (1 - decay) * live
        evaluated = rehearsal.submission.prepare_for_eval().state_dict()["0.weight"].clone()
        rehearsal.submission.resume_training()

        torch.testing.assert_close(evaluated, live if expected is None else expected)


def test_a_first_snapshot_at_the_end_of_a_call_does_not_fail() -> None:
    rehearsal = rehearsal_of("lawa_ema", lawa_beta=0.2)
    rehearsal.train(until=2)

    assert rehearsal.evaluate() < 1.0


@pytest.mark.parametrize(
    ("step_hint", "start", "queue_interval", "average_interval"),
    [
        (10_666, 214, 22, 54),
        (36_189, 724, 73, 181),
        (186_666, 3_734, 374, 934),
        (80_000, 1_600, 160, 400),
        (48_000, 960, 96, 240),
        (133_333, 2_667, 267, 667),
        (18_094, 362, 37, 91),
        (195_999, 3_920, 392, 980),
    ],
)
def test_snapshot_times_are_the_published_ones(
    step_hint: int, start: int, queue_interval: int, average_interval: int
) -> None:
    queue = SnapshotTimes.of_budget(step_hint, start_factor=0.02, interval_factor=0.002)
    average = SnapshotTimes.of_budget(step_hint, start_factor=0.02, interval_factor=0.005)

    assert queue == SnapshotTimes(start, queue_interval)
    assert average == SnapshotTimes(start, average_interval)


def test_a_queue_averages_its_latest_snapshots_and_nothing_before_it_is_full() -> None:
    queue = SnapshotQueue(2)
    queue.add([torch.tensor([1.0])])
    assert queue.value() is None
    queue.add([torch.tensor([2.0])])
    queue.add([torch.tensor([4.0])])

    assert queue.value() == [torch.tensor([3.0])]


def test_an_exponential_average_starts_at_the_first_snapshot() -> None:
    average = ExponentialAverage(0.2, torch.device("cpu"))
    average.add([torch.tensor([1.0])])
    average.add([torch.tensor([2.0])])

    value = average.value()
    assert value is not None
    assert float(value[0]) == pytest.approx(1.8)
