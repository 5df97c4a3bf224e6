"""Every submission trains the language model: scales of no dimension, a table that is input and output, RMSNorm.

Small and on invented text, whose words are unequally frequent: that alone lowers the loss within a few steps.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perfbench.api import TrainingContext
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import BATCH_SIZE, TinyProblem
from perfbench.api.workload import Batch, LossSums, LossType
from perfbench.compose import compose_submission, compose_workload
from perfbench.registry import submission_builder, submission_names, with_stand_ins
from perfbench.spec.submission import HyperparameterPoint, PointSpace, RangeSpace
from perfbench.tuning import halton
from perfbench.tuning.sampler import map_point
from perfbench.workloads.finewebedu_lm.workload import LanguageModelling, build

pytestmark = pytest.mark.slow

SMALL = {"row_length": 16, "width": 16, "num_heads": 2, "num_layers": 1, "feed_forward_width": 16, "vocab_size": 64}
NUM_STEPS = 60
LONGER = {"single_worker_diloco": 200}
"""What is evaluated moves every hundred steps."""
POINTS = {"generalized_adam": 1}
"""Index; the first point is plain momentum at a rate of 1.9, which diverges on any such model."""


def small_workload() -> LanguageModelling:
    spec = compose_workload("finewebedu_lm", scale="mini")
    return build(spec.model_copy(update={"params": spec.params | SMALL}), Path("no data"))


class Language(TinyProblem):
    """The workload as a problem of the conformance suite's kind."""

    name = "language"
    loss_type = LossType.SOFTMAX_CROSS_ENTROPY

    def __init__(self, workload: LanguageModelling) -> None:
        self.workload = workload

    def build_model(self, *, seed: int) -> nn.Module:
        return self.workload.build_model(seed=seed)

    def examples(self, generator: torch.Generator) -> Batch:
        raise NotImplementedError

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        raise NotImplementedError

    def batch(self, number: int) -> Batch:
        return self.workload.synthetic_batch(batch_size=BATCH_SIZE, seed=number)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        return self.workload.loss(model, batch, label_smoothing=label_smoothing)


class LanguageRehearsal(Rehearsal):
    """A rehearsal in which parameters have the workload's roles."""

    problem: Language

    def _context(self, *, seed: int, step_hint: int) -> TrainingContext:
        context = super()._context(seed=seed, step_hint=step_hint)
        return dataclasses.replace(context, roles=self.problem.workload.parameter_roles(self.model))


def chosen_point(name: str) -> HyperparameterPoint | None:
    match compose_submission(name).search_space:
        case PointSpace(points=points):
            return points[POINTS.get(name, 0)]
        case RangeSpace() as space:
            return map_point(space, halton.points(len(space.dimensions), num_points=1)[0])
        case None:
            return None


@pytest.mark.parametrize("name", submission_names())
def test_it_lowers_the_loss_and_moves_every_parameter(name: str, tmp_path: Path) -> None:
    spec = with_stand_ins(compose_submission(name), tmp_path)
    num_steps = LONGER.get(name, NUM_STEPS)
    problem = Language(small_workload())
    rehearsal = LanguageRehearsal(submission_builder(spec, chosen_point(name)), problem, seed=0, step_hint=num_steps)
    before, loss_before = rehearsal.weights(), rehearsal.evaluate()

    report = rehearsal.train(until=num_steps)
    loss_after = rehearsal.evaluate()

    after = rehearsal.weights()
    assert report is not None
    assert loss_after < loss_before
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert all(tensor.isfinite().all() for tensor in after.values())
