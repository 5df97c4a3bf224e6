"""Packs, batches of any number of ranks, and average precision. Figures: AlgoPerf ogbg specification, section 11."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from perfbench.api.workload import Shard
from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.errors import DataError, WorkloadError
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.ogbg import planted, prepare
from perfbench.workloads.ogbg.average_precision import average_precision, mean_average_precision
from perfbench.workloads.ogbg.order import Packer
from perfbench.workloads.ogbg.packing import Budget, fill, pack_ends
from perfbench.workloads.ogbg.params import Params, Scoring
from perfbench.workloads.ogbg.store import MoleculeStore
from perfbench.workloads.ogbg.workload import OgbgWorkload

SIZES = {"train": 300, "validation": 101, "test": 97}
NUM_TASKS = 6


def small_spec(**params: Any) -> WorkloadSpec:
    base = compose_workload("ogbg", scale="mini", dataset="planted")
    changed = {"num_tasks": NUM_TASKS, "expected_counts": SIZES, "eval_train_examples": 64, "num_packs": 4}
    return base.model_copy(update={"params": base.params | changed | params, "eval_batch_size": 64})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, prepared = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("prepared")
    planted.write_graphs(source, lambda *_: None, seed=3, sizes=SIZES, num_tasks=NUM_TASKS)
    request = PrepareRequest(
        workload=small_spec(), destination=prepared, source=source, progress=lambda *_: None, options={}
    )
    prepare.prepare(request)
    return prepared


class OfGraphs:
    """A store of given graphs: every atom's first column is its graph's number + 1."""

    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        self.atom_counts, self.bond_counts = (np.asarray(counts) for counts in zip(*sizes, strict=True))
        self.atom_starts = np.concatenate(([0], np.cumsum(self.atom_counts)))
        self.bond_starts = np.concatenate(([0], np.cumsum(self.bond_counts)))
        self.atoms = np.zeros((self.atom_starts[-1], 9), dtype=np.uint8)
        self.atoms[:, 0] = np.repeat(np.arange(len(sizes)) + 1, self.atom_counts)
        self.bonds = np.tile(np.asarray([[0, 1]], dtype=np.uint16), (self.bond_starts[-1], 1))
        self.bond_features = np.ones((self.bond_starts[-1], 3), dtype=np.uint8)
        self.labels = np.tile(np.arange(len(sizes), dtype=np.int8)[:, None] % 2, (1, 2))


def test_greedy_packing_as_published() -> None:
    store = OfGraphs([(30, 30), (25, 25), (10, 10), (22, 30), (20, 28)])
    budget = Budget(graphs=2, atoms=52, bonds=56)
    ends = pack_ends(store.atom_counts, store.bond_counts, budget)
    in_packs = np.diff(ends, prepend=0)

    packs = fill(store, np.arange(5), in_packs, budget)  # type: ignore[arg-type]  # has what is read

    assert in_packs.tolist() == [1, 2, 1, 1]
    assert packs.atoms.shape == (4, 53, 9)
    assert packs.bonds.shape == (4, 56, 2)
    atoms_of_graphs = [np.bincount(row, minlength=3).tolist() for row in packs.graph_of_atom]
    assert atoms_of_graphs == [[30, 23, 0], [25, 10, 18], [22, 31, 0], [20, 33, 0]]
    edges = [2 * np.bincount(g[b[:, 0]], minlength=3) for g, b in zip(packs.graph_of_atom, packs.bonds, strict=True)]
    assert [row.tolist() for row in edges] == [[60, 52, 0], [50, 20, 42], [60, 52, 0], [56, 56, 0]]
    assert [int(bonds[-1, 0]) for bonds in packs.bonds] == [30, 35, 22, 20]
    assert packs.weights.reshape(4, 3).tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert packs.atoms[1, :, 0].tolist() == [2] * 25 + [3] * 10 + [0] * 18
    assert packs.bonds[1, 25].tolist() == [25, 26], "atom numbers count from the start of the pack"


@pytest.mark.parametrize("seed", range(5))
def test_packing_equals_taking_one_graph_at_a_time(seed: int) -> None:
    random = np.random.default_rng(seed)
    atoms, bonds = random.integers(1, 30, 400), random.integers(0, 33, 400)
    budget = Budget(graphs=5, atoms=61, bonds=70)

    expected, taken = [], (0, 0, 0)
    for number, (a, b) in enumerate(zip(atoms, bonds, strict=True)):
        grown = (taken[0] + 1, taken[1] + a, taken[2] + b)
        if grown[0] > 5 or grown[1] > 61 or grown[2] > 70:
            expected.append(number)
            grown = (1, a, b)
        taken = grown

    assert pack_ends(atoms, bonds, budget).tolist() == [*expected, 400]


@pytest.mark.parametrize(("packs", "atoms", "bonds", "graphs"), [(8, 1665, 3584, 65), (1, 13313, 28672, 513)])
def test_shapes_at_full_scale(packs: int, atoms: int, bonds: int, graphs: int) -> None:
    params = Params.from_mapping(compose_workload("ogbg", scale="full").params | {"num_packs": packs})

    budget = Budget.of_batch(params, 512)

    assert (budget.atoms + 1, 2 * budget.bonds, budget.graphs + 1) == (atoms, bonds, graphs)


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [32, 64])
def test_every_graph_of_a_split_is_scored_once(folder: Path, num_ranks: int, batch_size: int) -> None:
    workload = OgbgWorkload(small_spec(), folder)
    for split in Split:
        rows, counts = [], set()
        for rank in range(num_ranks):
            shard = Shard(rank=rank, num_ranks=num_ranks)
            batches = list(workload.eval_batches(split, global_batch_size=batch_size, seed=0, shard=shard))
            rows += [batch["rows"][batch["weights"] > 0] for batch in batches]
            counts.add(len(batches))
        found = torch.cat(rows)
        expected = 64 if split is Split.EVAL_TRAIN else SIZES[split.value]

        assert len(counts) == 1
        assert torch.equal(found.sort().values, torch.arange(expected))


def test_an_epoch_trains_every_graph_but_those_of_the_incomplete_last_batch(folder: Path) -> None:
    workload = OgbgWorkload(small_spec(), folder)
    stream = workload.train_batches(global_batch_size=32, seed=5, shard=Shard())
    store = MoleculeStore.read(folder, "train")
    order = np.random.Generator(np.random.PCG64([5, 0])).permutation(np.arange(300))
    packer = Packer(store, Budget.of_batch(workload.params, 32), 4)
    sequence = packer.packed(order)

    ids = np.concatenate([stream.example_ids(index) for index in range(sequence.num_whole_batches)])
    stream.close()

    assert ids.tolist() == order[: sequence.num_graphs_in_whole_batches].tolist()
    assert len(ids) > 300 - 32


def test_ranks_that_cannot_share_the_packs_are_refused(folder: Path) -> None:
    workload = OgbgWorkload(small_spec(), folder)

    with pytest.raises(WorkloadError, match=r"num_packs: 3 ranks cannot share 4 packs equally\n  hint: "):
        workload.train_batches(global_batch_size=32, seed=0, shard=Shard(num_ranks=3))
    with pytest.raises(DataError, match=r"a batch of 30 graphs cannot be cut into 4 equal packs\n  hint: choose a mul"):
        workload.train_batches(global_batch_size=30, seed=0, shard=Shard())
    with pytest.raises(DataError, match=r"a batch of 4 graphs: a graph of 19 atoms and .* does not fit into a pack"):
        workload.train_batches(global_batch_size=4, seed=0, shard=Shard())
    with pytest.raises(WorkloadError, match=r"a batch of 512 needs more examples than the 300 of an epoch"):
        workload.train_batches(global_batch_size=512, seed=0, shard=Shard())


class ByFirstColumn(nn.Module):
    """Stands for a model: the logit is the sum of all atom columns of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(-0.01, 0.01, NUM_TASKS))

    def forward(self, atoms: Tensor, bonds: Tensor, features: Tensor, graph_of_atom: Tensor, *, num_graphs: int) -> Any:
        packs = torch.arange(len(atoms))[:, None] * num_graphs
        sums = torch.zeros(len(atoms) * num_graphs)
        sums.index_add_(0, (graph_of_atom + packs).flatten(), atoms.float().sum(dim=2).flatten())
        return sums[:, None] * self.scale


def metrics_of(workload: OgbgWorkload, split: Split) -> dict[str, float]:
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for batch in workload.eval_batches(split, global_batch_size=64, seed=0, shard=Shard()):
            for name, value in workload.eval_sums(ByFirstColumn(), batch, split=split).items():
                sums[name] = sums[name] + value if name in sums else value
    return workload.finish_metrics(split, sums)


def direct_scores(folder: Path, split: str, count: int | None = None) -> tuple[Any, Any]:
    store = MoleculeStore.read(folder, split)
    ids = np.arange(len(store))[:count]
    sums = [store.atoms[store.atom_starts[i] : store.atom_starts[i + 1]].sum(dtype=np.int64) for i in ids]
    logits = np.asarray(sums, dtype=np.float32)[:, None] * torch.linspace(-0.01, 0.01, NUM_TASKS).numpy()
    return logits, np.asarray(store.labels[ids])


def sklearn_mean(logits: Any, labels: Any) -> float:
    scores = torch.sigmoid(torch.from_numpy(logits)).numpy()
    return float(
        np.mean(
            [
                average_precision_score(labels[known, task], scores[known, task])
                for task in range(labels.shape[1])
                for known in [labels[:, task] >= 0]
            ]
        )
    )


def test_metrics_from_scattered_logits_equal_those_from_the_store(folder: Path) -> None:
    logits, labels = direct_scores(folder, "validation")
    known = labels >= 0
    z, y = logits[known].astype(np.float64), labels[known]

    metrics = metrics_of(OgbgWorkload(small_spec(), folder), Split.VALIDATION)

    assert metrics["mean_average_precision"] == pytest.approx(sklearn_mean(logits, labels), abs=1e-12)
    assert metrics["loss"] == pytest.approx(float(np.mean(np.logaddexp(0, z) - z * y)), abs=1e-12)
    assert metrics["accuracy"] == pytest.approx(float(np.mean((z > 0) == y)), abs=1e-12)
    assert metrics["num_examples"] == 101


def test_as_published_scores_only_complete_batches(folder: Path) -> None:
    workload = OgbgWorkload(small_spec(scoring="as_published", published_eval_batch_size=32), folder)
    store = MoleculeStore.read(folder, "validation")
    budget = Budget.of_batch(workload.params, 32)
    ends = pack_ends(store.atom_counts, store.bond_counts, budget)
    prefix = int(ends[len(ends) // 4 * 4 - 1])

    metrics = metrics_of(workload, Split.VALIDATION)

    assert prefix < 101
    assert metrics["num_examples"] == prefix
    logits, labels = direct_scores(folder, "validation", prefix)
    assert metrics["mean_average_precision"] == pytest.approx(sklearn_mean(logits, labels), abs=1e-12)


def test_as_published_covers_about_three_quarters_at_full_scale() -> None:
    random = np.random.default_rng(0)
    atoms = np.clip(random.normal(26, 6, 43_793).round().astype(np.int64), 2, 100)
    params = Params.from_mapping(compose_workload("ogbg", scale="full").params)
    budget = Budget.of_batch(params, params.published_eval_batch_size)

    ends = pack_ends(atoms, np.round(atoms * 28.108 / 25.97).astype(np.int64), budget)

    assert len(ends) == 11
    assert ends[7] / 43_793 == pytest.approx(0.745, abs=0.005)


def test_as_published_without_a_complete_batch_is_refused(folder: Path) -> None:
    workload = OgbgWorkload(small_spec(scoring="as_published", published_eval_batch_size=512), folder)

    with pytest.raises(WorkloadError, match=r"101 graphs make no complete batch of 512: as_published scores none"):
        next(workload.eval_batches(Split.TEST, global_batch_size=64, seed=0, shard=Shard()))


def test_a_graph_that_was_not_scored_once_is_an_error(folder: Path) -> None:
    workload = OgbgWorkload(small_spec(), folder)
    sums = {
        "logits": torch.zeros(3, 2),
        "label_codes": torch.full((3, 2), 2, dtype=torch.int8),
        "times_scored": torch.tensor([1, 2, 1]),
    }

    with pytest.raises(WorkloadError, match=r"validation: 1 graphs were not scored exactly once; graph 1 was 2 times"):
        workload.finish_metrics(Split.VALIDATION, sums)


class Fixed(nn.Module):
    """Returns given logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, *inputs: Tensor, num_graphs: int) -> Tensor:
        return self.logits


def test_loss_elements_with_and_without_smoothing(folder: Path) -> None:
    workload = OgbgWorkload(small_spec(num_tasks=128), folder)
    logits = torch.zeros(2, 128)
    logits[0, :3] = torch.tensor([2.0, -3.0, 0.5])
    targets = torch.full((2, 128), -1, dtype=torch.int8)
    targets[0, :3] = torch.tensor([1, 0, 1])
    targets[1] = 1  # a dummy graph: weighs nothing, whatever stands in it
    batch = {name: torch.zeros(1, 2) for name in ("atoms", "bonds", "bond_features", "graph_of_atom")}
    batch |= {"targets": targets, "weights": torch.tensor([1.0, 0.0])}

    plain = workload.loss(Fixed(logits), batch)
    smoothed = workload.loss(Fixed(logits), batch, label_smoothing=0.1)

    assert float(plain.num_valid) == 3
    assert float(plain.summed) == pytest.approx(0.1269 + 0.0486 + 0.4741, abs=1e-4)
    assert float(smoothed.summed) == pytest.approx(0.3254 + 0.0509 + 0.5237, abs=1e-4)
    assert plain.per_example.tolist() == pytest.approx([float(plain.summed), 0.0])


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([1, 0, 1, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.1], 0.8055556),
        ([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.1], 0.6666667),
        ([0, 0, 1], [0.9, 0.8, 0.7], 0.3333333),
    ],
)
def test_average_precision_by_hand(labels: list[int], scores: list[float], expected: float) -> None:
    assert average_precision(np.asarray(scores, dtype=np.float32), np.asarray(labels) == 1) == pytest.approx(
        expected, abs=1e-7
    )


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_equals_scikit_learn_also_with_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores: NDArray[np.float32] = random.integers(0, random.choice([3, 20, 10_000]), 300).astype(
        np.float32
    ) / np.float32(7)
    is_positive = random.random(300) < random.choice([0.01, 0.2, 0.9])
    is_positive[0] = True

    expected = average_precision_score(is_positive, scores)

    assert average_precision(scores, is_positive) == pytest.approx(expected, abs=1e-14)


def test_tasks_without_both_classes_are_left_out_and_as_published_counts_positives_only() -> None:
    labels = np.asarray([[1, 1, 0, -1], [0, 1, 0, -1], [1, -1, -1, -1]], dtype=np.int8)
    scores = np.asarray([[0.2, 0.3, 0.4, 0.5], [0.5, 0.1, 0.2, 0.1], [0.4, 0.9, 0.1, 0.2]], dtype=np.float32)
    first = average_precision_score([1, 0, 1], [0.2, 0.5, 0.4])

    assert mean_average_precision(scores, labels, scoring=Scoring.EXACT) == pytest.approx(first)
    assert mean_average_precision(scores, labels, scoring=Scoring.AS_PUBLISHED) == pytest.approx((first + 1) / 2)
    assert math.isnan(mean_average_precision(scores[:, 2:], labels[:, 2:], scoring=Scoring.EXACT))
    scores[1, 3] = np.nan
    assert math.isnan(mean_average_precision(scores, labels, scoring=Scoring.EXACT))


def test_two_shards_stream_what_one_does_over_the_end_of_an_epoch(folder: Path) -> None:
    workload = OgbgWorkload(small_spec(), folder)

    def batches(shard: Shard) -> list[dict[str, Tensor]]:
        stream = workload.train_batches(global_batch_size=32, seed=1, shard=shard)
        taken = list(itertools.islice(stream, 14))
        stream.close()
        return taken

    halves = [batches(Shard(rank=rank, num_ranks=2)) for rank in range(2)]
    for index, whole in enumerate(batches(Shard())):
        for name, tensor in whole.items():
            assert torch.equal(tensor, torch.cat([half[index][name] for half in halves])), name
