"""What the Shampoo submission adds to its optimizer: the split of large tables, the schedule, the report."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from perfbench.api import Batch, LossType
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import BATCH_SIZE, TinyProblem, TinyRegression
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder
from perfbench.spec.submission import PointSpace
from submissions.shampoo.optimizer import DistributedShampoo
from submissions.shampoo.settings import Grafting
from submissions.shampoo.submission import Shampoo

STEP_HINT = 50


class HugeTable(TinyProblem):
    name = "huge_table"
    loss_type = LossType.MEAN_SQUARED_ERROR

    def build_model(self, *, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Embedding(1_000_000, 1), nn.Linear(1, 1))

    def examples(self, generator: torch.Generator) -> Batch:
        ids = torch.randint(1_000_000, (BATCH_SIZE,), generator=generator)
        return {"inputs": ids, "targets": torch.ones(BATCH_SIZE, 1)}

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        return (outputs - targets).square()[:, 0]


def rehearsal_of(problem: TinyProblem, *, point: int, **options: str) -> Rehearsal:
    """Return a run of the competition's point, counted from 1."""
    spec = compose_submission("shampoo")
    spec = spec.model_copy(update={"options": {**spec.options, **options}})
    space = cast("PointSpace", spec.search_space)
    build = submission_builder(spec, space.points[point - 1])
    return Rehearsal(build, problem, seed=0, step_hint=STEP_HINT)


def optimizers_of(rehearsal: Rehearsal) -> list[DistributedShampoo]:
    return [cast("DistributedShampoo", o) for o in cast("Shampoo", rehearsal.submission).optimizers]


def test_a_table_with_a_million_rows_gets_the_adam_graft_alone_whatever_the_points_graft() -> None:
    rehearsal = rehearsal_of(HugeTable(), point=3)

    ordinary, large = optimizers_of(rehearsal)

    assert ordinary.settings.grafting is Grafting.SGD
    assert ordinary.settings.is_preconditioned
    assert large.settings.grafting is Grafting.ADAM
    assert not large.settings.is_preconditioned
    blocks = large.state_dict()["blocks"]
    assert [name for name in blocks if "0.weight" in name] == ["0.weight/0", "0.weight/1"]
    assert set(blocks["0.weight/0"]) == {"second", "momentum"}
    assert blocks["0.weight/0"]["second"].shape == (524_288,)


def test_large_tables_may_have_the_points_graft() -> None:
    rehearsal = rehearsal_of(HugeTable(), point=3, large_table_graft="of_point")
    before = rehearsal.weights()["0.weight"]

    _, large = optimizers_of(rehearsal)
    rehearsal.train(until=2)

    assert large.settings.grafting is Grafting.SGD
    assert set(large.state_dict()["blocks"]["0.weight/0"]) == {"momentum"}
    assert not torch.equal(rehearsal.weights()["0.weight"], before)


def test_where_the_points_graft_is_adam_large_tables_have_it_either_way() -> None:
    _, large = optimizers_of(rehearsal_of(HugeTable(), point=1, large_table_graft="of_point"))

    assert large.settings.grafting is Grafting.ADAM


def test_the_table_is_trained_at_the_rate_of_the_point() -> None:
    rehearsal = rehearsal_of(HugeTable(), point=1)
    before = rehearsal.weights()

    report = rehearsal.train(until=2)

    assert report is not None
    changed = (rehearsal.model.state_dict()["0.weight"] != before["0.weight"]).sum()
    assert changed > 10_000, "weight decay acts on every row"
    assert [o.param_groups[0]["lr"] for o in optimizers_of(rehearsal)] == [report.learning_rate] * 2


def test_without_a_large_table_there_is_one_instance() -> None:
    assert len(optimizers_of(rehearsal_of(TinyRegression(), point=1))) == 1


def test_the_second_points_rate_rises_again_after_its_horizon() -> None:
    schedule = cast("Shampoo", rehearsal_of(TinyRegression(), point=2).submission).schedule

    assert schedule is not None
    assert schedule(30) < 1e-15
    assert schedule(STEP_HINT - 1) > 0.0005


def test_the_second_points_rate_may_stay_at_zero_after_its_horizon() -> None:
    as_run = cast("Shampoo", rehearsal_of(TinyRegression(), point=2).submission).schedule
    as_intended = cast("Shampoo", rehearsal_of(TinyRegression(), point=2, after_horizon="stays_at_zero").submission)

    assert as_run is not None
    assert as_intended.schedule is not None
    assert [as_intended.schedule(k) for k in range(30)] == [as_run(k) for k in range(30)]
    assert [as_intended.schedule(k) for k in range(30, STEP_HINT)] == [0.0] * 20


def test_the_report_counts_roots_that_kept_their_previous_value() -> None:
    rehearsal = rehearsal_of(TinyRegression(), point=1)
    optimizers_of(rehearsal)[0].num_kept_roots = 3

    report = rehearsal.train(until=1)

    assert report is not None
    assert report.extra == {"num_kept_roots": 3.0}
