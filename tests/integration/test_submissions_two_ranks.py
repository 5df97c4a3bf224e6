"""Every submission trains on two ranks (gloo) as it does on one, whatever share of valid examples each rank has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from pydantic import JsonValue
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from perfbench.api import TrainingContext
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyClicks, TinyProblem, TinyRegression
from perfbench.api.workload import Batch, LossSums, Shard
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder, submission_names
from perfbench.spec.submission import HyperparameterPoint, PointSpace, RangeSpace, SubmissionSpec
from perfbench.tuning import halton
from perfbench.tuning.sampler import map_point

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("submissions_two_ranks")]  # all are trained once, for all tests

NUM_RANKS = 2
NUM_STEPS = 12
NUM_STEPS_SHARDED = 104
"""Where ranks hold different state: past the first step at which that matters (roots at step 100)."""
PROBLEMS = (TinyRegression(), TinyClicks())
"""No batch norm: its statistics are a rank's own in training, as in the rules."""
AMPLIFIES_ROUNDING = {"soap", "kl_shampoo", "schedule_free_prodigy"}
"""Held by the loss that they reach: eigenvectors of factors without full rank, and weights kept in bfloat16, turn
the last bit of a gradient into visible differences of weights."""
BFLOAT16_ATOL = dict.fromkeys(("normuon", "scion"), 1e-3)
"""A last bit that changes one of bfloat16 is a hundredth of a step of an entry, and steps here are up to 0.01 long."""
WITHOUT_SAMPLES: dict[str, dict[str, JsonValue]] = {"kfac": {"output_curvature": "exact"}}
"""Options of submissions that draw samples by default, each rank its own."""
RUNNABLE = [n for n in submission_names() if all(f.path is not None for f in compose_submission(n).files.values())]


class SharedRehearsal(Rehearsal):
    """A rehearsal whose batches are dealt to ranks, without dropout (masks are drawn per rank)."""

    def __init__(self, name: str, problem: TinyProblem, *, rank: int, num_ranks: int) -> None:
        self.rank, self.num_ranks = rank, num_ranks
        spec = compose_submission(name)
        spec = spec.model_copy(update={"options": spec.options | WITHOUT_SAMPLES.get(name, {})})
        super().__init__(submission_builder(spec, first_point(spec)), problem, seed=5, step_hint=NUM_STEPS_SHARDED)

    def _context(self, *, seed: int, step_hint: int) -> TrainingContext:
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.averaging = DistributedDataParallel(self.model) if self.num_ranks > 1 else self.model
        return dataclasses.replace(
            super()._context(seed=seed, step_hint=step_hint),
            shard=Shard(rank=self.rank, num_ranks=self.num_ranks),
            add_over_ranks=self._add_over_ranks,
            set_dropout=lambda _: None,
        )

    def _batches(self) -> Iterator[Batch]:
        for batch in super()._batches():
            yield {key: tensor[self.rank :: self.num_ranks] for key, tensor in batch.items()}

    def _loss(self, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        return self.problem.loss(self.averaging, batch, label_smoothing=label_smoothing)

    def _add_over_ranks(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        if self.num_ranks > 1:
            dist.all_reduce(total)
        return total


def first_point(spec: SubmissionSpec) -> HyperparameterPoint | None:
    if "self_tuning" in spec.rulesets:
        return None
    match spec.search_space:
        case PointSpace(points=points):
            return points[0]
        case RangeSpace() as space:
            return map_point(space, halton.points(len(space.dimensions), num_points=1)[0])
        case None:
            return None


@dataclasses.dataclass
class End:
    """Where training led."""

    weights: dict[str, Tensor]
    loss: float


def trained(name: str, problem: TinyProblem, *, rank: int, num_ranks: int) -> End:
    rehearsal = SharedRehearsal(name, problem, rank=rank, num_ranks=num_ranks)
    is_sharded = getattr(rehearsal.submission, "state_is_sharded", False)
    rehearsal.train(until=NUM_STEPS_SHARDED if is_sharded else NUM_STEPS)
    weights = rehearsal.weights()
    return End(weights=weights, loss=rehearsal.evaluate())


def train_all(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=NUM_RANKS)
    ends = {
        (name, problem.name): dataclasses.asdict(trained(name, problem, rank=rank, num_ranks=NUM_RANKS))
        for name in RUNNABLE
        for problem in PROBLEMS
    }
    torch.save(ends, folder / f"rank_{rank}.pt")
    dist.destroy_process_group()


Ends = list[dict[tuple[str, str], End]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    folder = tmp_path_factory.mktemp("ranks")
    spawn(train_all, args=(folder,), nprocs=NUM_RANKS)
    saved = [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(NUM_RANKS)]
    return [{key: End(**end) for key, end in ends.items()} for ends in saved]


def test_submissions_are_found() -> None:
    assert len(RUNNABLE) >= 20
    assert set(RUNNABLE) > AMPLIFIES_ROUNDING


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
@pytest.mark.parametrize("name", RUNNABLE)
def test_two_ranks_train_as_one(name: str, problem: TinyProblem, ranks: Ends) -> None:
    start = SharedRehearsal(name, problem, rank=0, num_ranks=1).weights()
    expected = trained(name, problem, rank=0, num_ranks=1)
    assert any(not torch.equal(start[key], value) for key, value in expected.weights.items())

    one, two = (rank[name, problem.name] for rank in ranks)

    for key, value in expected.weights.items():
        assert torch.equal(one.weights[key], two.weights[key]), f"ranks differ in {key}"
        if name not in AMPLIFIES_ROUNDING:
            torch.testing.assert_close(one.weights[key], value, rtol=1e-3, atol=BFLOAT16_ATOL.get(name, 2e-5))
    assert one.loss == pytest.approx(expected.loss, rel=0.02)
