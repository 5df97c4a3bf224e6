"""The workload: data, model, loss and metric joined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.api.picture import Picture
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard, TrainStream
from perfbench.data.inventing import Inventor
from perfbench.data.modules import roles_of, seeded, set_dropout_rate
from perfbench.data.stream import RowStream
from perfbench.errors import WorkloadError
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.ogbg.average_precision import mean_average_precision
from perfbench.workloads.ogbg.invented import invented_packs
from perfbench.workloads.ogbg.model import Encoder, GraphNetwork
from perfbench.workloads.ogbg.order import Packer, TrainOrder, eval_train_ids
from perfbench.workloads.ogbg.packing import Budget, IntArray, Packs
from perfbench.workloads.ogbg.params import Params, Scoring
from perfbench.workloads.ogbg.picture import molecules
from perfbench.workloads.ogbg.store import MoleculeStore

_CODE_OF_ZERO = 2
"""Labels are scattered into zeros as label + 2: a row that nobody scored cannot be taken for a label."""


def build(spec: WorkloadSpec, data_folder: Path) -> OgbgWorkload:
    """Build the workload on its prepared data."""
    return OgbgWorkload(spec, data_folder)


class OgbgWorkload:
    """Predict binary properties of molecules; the metric is the mean average precision over tasks.

    A batch consists of packs of equal shape (p packs of n atoms, m bonds and g graphs, the last of each spare). It
    has ``atoms`` uint8 ``[p, n, 9]``, ``bonds`` int32 ``[p, m, 2]``, ``bond_features`` uint8 ``[p, m, 3]``,
    ``graph_of_atom`` int32 ``[p, n]``, ``targets`` int8 ``[p * g, t]`` (-1 where there is no label) and ``weights``
    float32 ``[p * g]`` (0 where padded). Evaluation adds ``rows`` int64 ``[p * g]``: places in the split.
    """

    loss_type = LossType.SIGMOID_CROSS_ENTROPY

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.spec = spec
        self.params = Params.from_mapping(spec.params, where="workload.params")
        self._folder = data_folder
        self._stores: dict[str, MoleculeStore] = {}

    @cached_property
    def _held_out(self) -> dict[Split, IntArray]:
        return {split: self._scored_ids(split) for split in (Split.VALIDATION, Split.TEST)}

    def build_model(self, *, seed: int) -> GraphNetwork:
        """Build the initialised model; the global generator is left as it was."""
        with seeded(seed):
            return GraphNetwork(self.params)

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return roles by the class of the module that holds the parameter."""
        return roles_of(model, _role)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        """Return the summed cross-entropy; what is counted are labels, not graphs.

        A smoothed label is ``(1 - s) * label + s / tasks``, as published: only labels of 1 lose.
        """
        logits = _logits(model, batch)
        is_labelled = (batch["targets"] >= 0) & (batch["weights"] > 0).unsqueeze(1)
        weights = is_labelled.to(logits.dtype)
        labels = (batch["targets"] > 0).to(logits.dtype)
        smoothed = (1 - label_smoothing) * labels + label_smoothing / self.params.num_tasks
        losses = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none") * weights
        per_example = losses.sum(dim=1)
        return LossSums(per_example.sum(), weights.sum(), per_example)

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's stream over shuffled and packed graphs.

        Raises:
            WorkloadError: If the ranks cannot share the packs equally.
            DataError: If the batch cannot be cut into packs, or a graph would not fit.
        """
        packer = self._packer("train", global_batch_size, shard)
        order = TrainOrder(packer, seed=seed, shard=shard)
        return RowStream(order, lambda packed: _batch(packer.filled(packed)))

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split, in stored order; ``eval_train`` is drawn once by the seed."""
        packer = self._packer("train" if split is Split.EVAL_TRAIN else split.value, global_batch_size, shard)
        if split is Split.EVAL_TRAIN:
            ids = eval_train_ids(len(packer.store), count=self._num_rows(split), seed=seed)
        else:
            ids = self._held_out[split]
        sequence = packer.packed(ids)
        for index in range(sequence.num_batches):
            packed = sequence.part(index, shard)
            places = torch.arange(packed.position, packed.position + len(packed.ids))
            yield _with_rows(packer.filled(packed), places)

    def synthetic_batch(self, *, batch_size: int, seed: int, split: Split | None = None, num_ranks: int = 1) -> Batch:
        """Return invented graphs in packs with the room that real ones would have.

        Raises:
            WorkloadError: If the ranks cannot share the packs equally.
            DataError: If the batch cannot be cut into packs.
        """
        shard = Shard(num_ranks=num_ranks)
        self._require_equal_shares(shard)
        budget = Budget.of_batch(self.params, batch_size * num_ranks)
        num_packs = shard.size_of(self.params.num_packs)
        packs = invented_packs(Inventor(seed, split), budget, num_packs, num_tasks=self.params.num_tasks)
        if split is None:
            return _batch(packs)
        return _with_rows(packs, torch.arange(len(packs.slots)) % self._num_rows(split))

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:
        """Return logits and labels scattered to the rows of their graphs: adding them gathers the whole split."""
        logits = _logits(model, batch).to(torch.float32)
        is_graph = batch["weights"] > 0
        rows = torch.where(is_graph, batch["rows"], 0)
        codes = torch.where(is_graph.unsqueeze(1), batch["targets"] + _CODE_OF_ZERO, 0)
        num_rows = self._num_rows(split)
        shape = (num_rows, logits.shape[1])
        return {
            "logits": logits.new_zeros(shape).index_add(0, rows, torch.where(is_graph.unsqueeze(1), logits, 0.0)),
            "label_codes": codes.new_zeros(shape).index_add(0, rows, codes),
            "times_scored": rows.new_zeros(num_rows).index_add(0, rows, is_graph.to(rows.dtype)),
        }

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return mean average precision, loss and accuracy (both over labels), and the number of graphs.

        Raises:
            WorkloadError: If not every graph was scored exactly once.
        """
        times_scored = sums["times_scored"]
        wrong = torch.nonzero(times_scored != 1).flatten()
        if len(wrong):
            raise WorkloadError(
                f"{len(wrong)} graphs were not scored exactly once; graph {int(wrong[0])} was "
                f"{int(times_scored[wrong[0]])} times",
                where=split.value,
            )
        logits, labels = sums["logits"], sums["label_codes"] - _CODE_OF_ZERO
        is_labelled = labels >= 0
        known_logits, known_labels = logits[is_labelled], labels[is_labelled]
        losses = functional.binary_cross_entropy_with_logits(known_logits.double(), known_labels.double())
        accuracy = ((known_logits > 0) == (known_labels > 0)).double().mean()
        precision = mean_average_precision(torch.sigmoid(logits).numpy(), labels.numpy(), scoring=self.params.scoring)
        return {
            "mean_average_precision": precision,
            "loss": float(losses) if len(known_labels) else math.nan,
            "accuracy": float(accuracy),
            "num_examples": float(len(times_scored)),
        }

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        """Set the one rate of all dropout layers."""
        set_dropout_rate(model, rate)

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """Do nothing: there is no batch norm."""

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        """Return drawn graphs with their sizes and how many labels are predicted."""
        return molecules(_logits(model, batch), batch)

    def _store(self, split: str) -> MoleculeStore:
        """Return a split, read when it is first asked for: a confined trainer can read that for training alone."""
        if split not in self._stores:
            self._stores[split] = MoleculeStore.read(self._folder, split)
        return self._stores[split]

    def _packer(self, split: str, global_batch_size: int, shard: Shard) -> Packer:
        self._require_equal_shares(shard)
        store = self._store(split)
        budget = Budget.of_batch(self.params, global_batch_size)
        budget.require_room(
            atoms=int(store.atom_counts.max()),
            bonds=int(store.bond_counts.max()),
            where=f"a batch of {global_batch_size} graphs",
        )
        return Packer(store, budget, self.params.num_packs)

    def _require_equal_shares(self, shard: Shard) -> None:
        if self.params.num_packs % shard.num_ranks:
            raise WorkloadError(
                f"{shard.num_ranks} ranks cannot share {self.params.num_packs} packs equally",
                where="workload.params.num_packs",
                hint="a batch is cut into so many packs: choose a number of ranks that divides it",
            )

    def _num_rows(self, split: Split) -> int:
        """Return how many graphs of a split are scored; the counts were asserted when the data was prepared."""
        counts = {str(name): count for name, count in self.params.expected_counts.items()}
        if split is Split.EVAL_TRAIN:
            return min(self.params.eval_train_examples, counts["train"])
        if self.params.scoring is Scoring.EXACT:
            return counts[split.value]
        return len(self._held_out[split])

    def _scored_ids(self, split: Split) -> IntArray:
        """Return the graphs of a held-out split that are scored, in stored order."""
        ids = np.arange(len(self._store(split.value)))
        if self.params.scoring is Scoring.EXACT:
            return ids
        size = self.params.published_eval_batch_size
        sequence = self._packer(split.value, size, Shard()).packed(ids)
        if not sequence.num_whole_batches:
            raise WorkloadError(
                f"{len(ids)} graphs make no complete batch of {size}: as_published scores none of them",
                where=f"workload.params.scoring, {split.value}",
                hint="lower workload.params.published_eval_batch_size, or use scoring=exact",
            )
        return ids[: sequence.num_graphs_in_whole_batches]


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return logits ``[p * g, t]``."""
    num_graphs = len(batch["weights"]) // len(batch["graph_of_atom"])
    logits: Tensor = model(
        batch["atoms"], batch["bonds"], batch["bond_features"], batch["graph_of_atom"], num_graphs=num_graphs
    )
    return logits


def _batch(packs: Packs) -> Batch:
    names = ("atoms", "bonds", "bond_features", "graph_of_atom", "targets", "weights")
    return {name: torch.from_numpy(getattr(packs, name)) for name in names}


def _with_rows(packs: Packs, places: Tensor) -> Batch:
    """Return a batch of evaluation; ``places`` int64 has those of its graphs in the split, in order."""
    rows = torch.zeros(len(packs.weights), dtype=torch.int64)
    rows[torch.from_numpy(packs.slots)] = places
    return _batch(packs) | {"rows": rows}


def _role(module: nn.Module, name: str) -> ParameterRole:
    match module, name:
        case nn.LayerNorm(), "weight":
            return ParameterRole.LAYER_NORM_SCALE
        case nn.LayerNorm(), _:
            return ParameterRole.LAYER_NORM_BIAS
        case Encoder(), "weight":
            return ParameterRole.EMBEDDING
        case _, "weight":
            return ParameterRole.WEIGHT
        case _:
            return ParameterRole.BIAS
