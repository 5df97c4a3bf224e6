"""The workload: data, model, loss and metric joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from perfbench.api.picture import Picture
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard, TrainStream
from perfbench.data.classification import (
    classification_picture,
    classification_sums,
    finished_classification,
    roles_by_module,
    softmax_loss,
)
from perfbench.data.images.idx import IMAGE_SIDE, NUM_CLASSES
from perfbench.data.inventing import Inventor
from perfbench.data.modules import seeded
from perfbench.data.preparation import Manifest
from perfbench.data.sampling import BatchOrder, RowRange, UnitOrder, evaluation_ranges
from perfbench.data.splits import BySplit
from perfbench.data.stream import RowStream
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.mnist.arrays import stored_split
from perfbench.workloads.mnist.model import DigitModel
from perfbench.workloads.mnist.params import Params

_TRAIN = "train"


def build(spec: WorkloadSpec, data_folder: Path) -> MnistWorkload:
    """Build the workload on its prepared data."""
    return MnistWorkload(spec, data_folder)


class MnistWorkload:
    """Tell ten handwritten digits apart; the metric is accuracy.

    A batch has ``inputs`` uint8 ``[b, 1, 28, 28]`` (the model normalises them), ``targets`` int64 ``[b]`` and
    ``weights`` float32 ``[b]`` (0 where padded).
    """

    loss_type = LossType.SOFTMAX_CROSS_ENTROPY

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.spec = spec
        self.params = Params.from_mapping(spec.params, where="workload.params")
        self._folder = data_folder
        self._stored = BySplit(lambda split: stored_split(data_folder, split))

    @cached_property
    def _counts(self) -> dict[str, int]:
        return Manifest.read(self._folder, prepare_command=f"perfbench data prepare {self.spec.family}").counts

    def build_model(self, *, seed: int) -> DigitModel:
        """Build the initialised model; the global generator is left as it was."""
        with seeded(seed):
            return DigitModel(self.params)

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return two weights and two biases."""
        return roles_by_module(model)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        """Return the summed cross-entropy."""
        logits = model(batch["inputs"])
        return softmax_loss(logits, batch["targets"], batch["weights"], label_smoothing=label_smoothing)

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's stream over shuffled images."""
        order = BatchOrder(self._shuffled(seed), global_batch_size=global_batch_size, shard=shard)
        size = shard.size_of(global_batch_size)
        return RowStream(order, lambda ranges: self._batch(_TRAIN, _rows(ranges), size))

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split; ``eval_train`` is the first images of an order that the seed fixes."""
        size = shard.size_of(global_batch_size)
        stored, order = (_TRAIN, self._shuffled(seed)) if split is Split.EVAL_TRAIN else (split.value, None)
        num_examples = self._num_examples(split)
        for ranges in evaluation_ranges(num_examples, order, global_batch_size=global_batch_size, shard=shard):
            yield self._batch(stored, _rows(ranges), size)

    def synthetic_batch(
        self,
        *,
        batch_size: int,
        seed: int,
        split: Split | None = None,
        num_ranks: int = 1,  # noqa: ARG002
    ) -> Batch:
        """Return an invented batch; every split's have one shape."""
        drawn = Inventor(seed, split)
        return {
            "inputs": drawn.images(batch_size, 1, IMAGE_SIDE),
            "targets": drawn.integers(0, NUM_CLASSES, batch_size, dtype=torch.int64),
            "weights": torch.ones(batch_size),
        }

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:  # noqa: ARG002
        """Return right predictions, summed loss and count."""
        return classification_sums(model(batch["inputs"]), batch)

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return accuracy and loss.

        Raises:
            WorkloadError: If not every example was counted exactly once.
        """
        return finished_classification(split, sums, num_expected=self._num_examples(split))

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        """Do nothing: there is no dropout."""

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """Do nothing: there is no batch norm."""

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        """Return images with their labels and wrong predictions."""
        return classification_picture(model, batch)

    def _shuffled(self, seed: int) -> UnitOrder:
        return UnitOrder(np.ones(self._counts[_TRAIN], dtype=np.int64).tolist(), seed=seed)

    def _num_examples(self, split: Split) -> int:
        if split is Split.EVAL_TRAIN:
            return min(self.params.eval_train_examples, self._counts[_TRAIN])
        return self._counts[split.value]

    def _batch(self, split: str, rows: NDArray[np.int64], size: int) -> Batch:
        """Copy images into a batch of ``size``; what the rows do not fill has weight zero."""
        stored = self._stored[split]
        images = np.zeros((size, 1, IMAGE_SIDE, IMAGE_SIDE), dtype=np.uint8)
        labels = np.zeros(size, dtype=np.int64)
        images[: len(rows), 0] = stored.images[rows]
        labels[: len(rows)] = stored.labels[rows]
        weights = torch.zeros(size)
        weights[: len(rows)] = 1.0
        return {"inputs": torch.from_numpy(images), "targets": torch.from_numpy(labels), "weights": weights}


def _rows(ranges: Sequence[RowRange]) -> NDArray[np.int64]:
    parts = [np.arange(rows.first, rows.first + rows.count) for rows in ranges]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
