"""The workload: data, model, loss and metric joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional

from perfbench.api.picture import Picture
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard, TrainStream
from perfbench.data.inventing import Inventor
from perfbench.data.modules import roles_of, seeded
from perfbench.data.preparation import Manifest
from perfbench.data.sampling import BatchOrder, RowRange, UnitOrder, evaluation_ranges
from perfbench.data.stream import RowStream
from perfbench.errors import WorkloadError
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.criteo.invented import invented_clicks
from perfbench.workloads.criteo.model import ClickModel
from perfbench.workloads.criteo.params import NUM_CATEGORICALS, NUM_INTEGERS, Params
from perfbench.workloads.criteo.picture import click_table
from perfbench.workloads.criteo.shards import Mapped, ShardReader

_TRAIN = "train"
_SHARDS = TypeAdapter(dict[str, dict[str, int]])


def build(spec: WorkloadSpec, data_folder: Path) -> CriteoWorkload:
    """Build the workload on its prepared data."""
    return CriteoWorkload(spec, data_folder)


class CriteoWorkload:
    """Predict clicks; loss and metric are the binary cross-entropy in nats.

    A batch has ``integers`` int32 ``[b, 13]``, ``ids`` int32 ``[b, 26]`` (buckets, not yet table rows), ``targets``
    float32 ``[b]`` and ``weights`` float32 ``[b]`` (0 where padded).
    """

    loss_type = LossType.SIGMOID_CROSS_ENTROPY

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.spec = spec
        self.params = Params.from_mapping(spec.params, where="workload.params")
        self._folder = data_folder

    @cached_property
    def _manifest(self) -> Manifest:
        return Manifest.read(self._folder, prepare_command=f"perfbench data prepare {self.spec.family}")

    @cached_property
    def _readers(self) -> dict[str, ShardReader]:
        return {split: _reader(self._manifest, self._folder, split) for split in self._manifest.counts}

    def build_model(self, *, seed: int) -> ClickModel:
        """Build the initialised model; the global generator is left as it was."""
        with seeded(seed):
            return ClickModel(self.params)

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return roles by the class of the module that holds the parameter."""
        return roles_of(model, _role)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:  # noqa: ARG002
        """Return the summed cross-entropy; label smoothing is ignored, as published."""
        logits = model(batch["integers"], batch["ids"])
        per_example = _cross_entropy(logits, batch)
        return LossSums(per_example.sum(), batch["weights"].sum(), per_example)

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's stream over shuffled files or blocks."""
        order = BatchOrder(self._units(seed), global_batch_size=global_batch_size, shard=shard)
        size = shard.size_of(global_batch_size)
        return RowStream(order, lambda ranges: self._batch(_TRAIN, ranges, size))

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split; ``eval_train`` is the first rows of an order that the seed fixes."""
        size = shard.size_of(global_batch_size)
        stored, order = (_TRAIN, self._units(seed)) if split is Split.EVAL_TRAIN else (split.value, None)
        num_examples = self._num_examples(split)
        for ranges in evaluation_ranges(num_examples, order, global_batch_size=global_batch_size, shard=shard):
            yield self._batch(stored, ranges, size)

    def synthetic_batch(
        self,
        *,
        batch_size: int,
        seed: int,
        split: Split | None = None,
        num_ranks: int = 1,  # noqa: ARG002
    ) -> Batch:
        """Return an invented batch; every split's have one shape."""
        return invented_clicks(Inventor(seed, split), batch_size)

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the summed cross-entropy and the number of examples, in float64."""
        logits = model(batch["integers"], batch["ids"])
        return {
            "loss": _cross_entropy(logits, batch).sum(dtype=torch.float64),
            "num_examples": batch["weights"].sum(dtype=torch.float64),
        }

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the mean loss in nats and the number of examples.

        Raises:
            WorkloadError: If not every example was counted exactly once.
        """
        counted, expected = round(float(sums["num_examples"])), self._num_examples(split)
        if counted != expected:
            raise WorkloadError(f"evaluated {counted} examples instead of {expected}", where=split.value)
        return {"loss": float(sums["loss"]) / counted, "num_examples": float(counted)}

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        """Set the rate of the one dropout layer, before the output."""
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate if self._is_published_dropout(model, module) else 0.0

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """Do nothing: there is no batch norm."""

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        """Return examples as a table, with the predicted probabilities."""
        return click_table(model, batch)

    def _is_published_dropout(self, model: nn.Module, module: nn.Dropout) -> bool:
        """Tell whether this is the dropout before the output, the only one that the published model has."""
        return module is [m for m in model.modules() if isinstance(m, nn.Dropout)][-1]

    def _units(self, seed: int) -> UnitOrder:
        file_sizes = [size for _, size in _named_shards(self._manifest, _TRAIN)]
        if self.params.order == "files":
            return UnitOrder.of_files(file_sizes, seed=seed)
        return UnitOrder.of_blocks(file_sizes, block_rows=self.params.block_rows, seed=seed)

    def _num_examples(self, split: Split) -> int:
        if split is Split.EVAL_TRAIN:
            return min(self.params.eval_train_examples, self._manifest.counts[_TRAIN])
        return self._manifest.counts[split.value]

    def _batch(self, stored_split: str, ranges: Sequence[RowRange], size: int) -> Batch:
        """Read rows into a batch of ``size``; what the ranges do not fill has weight zero."""
        arrays = Mapped(
            buckets=np.zeros((size, NUM_CATEGORICALS), dtype=np.int32),
            integers=np.zeros((size, NUM_INTEGERS), dtype=np.int32),
            labels=np.zeros(size, dtype=np.uint8),
        )
        filled = self._readers[stored_split].read(ranges, arrays)
        weights = torch.zeros(size)
        weights[:filled] = 1.0
        return {
            "integers": torch.from_numpy(arrays.integers),
            "ids": torch.from_numpy(arrays.buckets),
            "targets": torch.from_numpy(arrays.labels).to(torch.float32),
            "weights": weights,
        }


def _cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Return the weighted cross-entropy of each example, shape ``[b]``."""
    loss = functional.binary_cross_entropy_with_logits(logits, batch["targets"].to(logits.dtype), reduction="none")
    return loss * batch["weights"].to(logits.dtype)


def _role(module: nn.Module, name: str) -> ParameterRole:
    match module, name:
        case nn.Embedding() | nn.EmbeddingBag(), _:
            return ParameterRole.EMBEDDING
        case nn.LayerNorm(), "weight":
            return ParameterRole.LAYER_NORM_SCALE
        case nn.LayerNorm(), _:
            return ParameterRole.LAYER_NORM_BIAS
        case _, "weight":
            return ParameterRole.WEIGHT
        case _:
            return ParameterRole.BIAS


def _named_shards(manifest: Manifest, split: str) -> list[tuple[str, int]]:
    return list(_SHARDS.validate_python(manifest.facts["shards"])[split].items())


def _reader(manifest: Manifest, folder: Path, split: str) -> ShardReader:
    named = _named_shards(manifest, split)
    return ShardReader([folder / name for name, _ in named], [size for _, size in named])
