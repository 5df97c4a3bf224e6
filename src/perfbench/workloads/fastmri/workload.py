"""The workload: data, model, loss and metric joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from perfbench.api.picture import Picture
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard, TrainStream
from perfbench.data.inventing import Inventor
from perfbench.data.modules import roles_of, seeded, set_dropout_rate
from perfbench.data.preparation import Manifest
from perfbench.data.sampling import BatchOrder, RowRange, UnitOrder, padded_part
from perfbench.data.stream import RowStream
from perfbench.errors import WorkloadError
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.fastmri.examples import ExampleLoader
from perfbench.workloads.fastmri.invented import invented_slices
from perfbench.workloads.fastmri.masks import EVALUATION_KEY
from perfbench.workloads.fastmri.model import UNet
from perfbench.workloads.fastmri.params import Params
from perfbench.workloads.fastmri.picture import reconstructions
from perfbench.workloads.fastmri.ssim import similarity_in_raw_unit
from perfbench.workloads.fastmri.volumes import SliceReader, VolumeFacts

_TRAIN = "train"
_VOLUMES = TypeAdapter(dict[str, list[VolumeFacts]])
_MOST_THREADS = 4


def build(spec: WorkloadSpec, data_folder: Path) -> FastMriWorkload:
    """Build the workload on its prepared data."""
    return FastMriWorkload(spec, data_folder)


class FastMriWorkload:
    """Reconstruct images from a quarter of their k-space; the loss is L1, the metric structural similarity.

    A batch has, all float32, ``inputs`` and ``targets`` ``[b, n, n]`` (standardised), ``mean``, ``std`` and ``maximum``
    ``[b]`` (of the zero-filled image, and of the volume) and ``weights`` ``[b]`` (0 where padded).
    """

    loss_type = LossType.MEAN_ABSOLUTE_ERROR

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.spec = spec
        self.params = Params.from_mapping(spec.params, where="workload.params")
        self._folder = data_folder

    @cached_property
    def _loaders(self) -> dict[str, ExampleLoader]:
        manifest = Manifest.read(self._folder, prepare_command=f"perfbench data prepare {self.spec.family}")
        volumes = _VOLUMES.validate_python(manifest.facts["volumes"])
        num_threads = min(_MOST_THREADS, torch.get_num_threads())
        return {
            split: ExampleLoader(SliceReader(self._folder, members, self.params.image_size), self.params, num_threads)
            for split, members in volumes.items()
        }

    def build_model(self, *, seed: int) -> UNet:
        """Build the initialised model; the global generator is left as it was."""
        with seeded(seed):
            return UNet(self.params)

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return roles by the class of the module that holds the parameter."""
        return roles_of(model, _role)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:  # noqa: ARG002
        """Return the summed mean absolute error of each image; label smoothing is ignored, as published."""
        per_example = _absolute_error(model(batch["inputs"]), batch)
        return LossSums(per_example.sum(), batch["weights"].sum(), per_example)

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's stream over all slices, permuted anew in every epoch; each keeps one mask per seed."""
        order = BatchOrder(self._order(seed), global_batch_size=global_batch_size, shard=shard)
        size = shard.size_of(global_batch_size)
        return RowStream(order, lambda rows: self._train_batch(rows, size, seed))

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split; ``eval_train`` is the first slices of an order that the seed fixes."""
        size = shard.size_of(global_batch_size)
        order = self._order(seed) if split is Split.EVAL_TRAIN else None
        for first, count in padded_part(self._num_examples(split), global_batch_size=global_batch_size, shard=shard):
            if order is not None:
                yield self._train_batch(order.ranges(0, first, count), size, seed)
            else:
                numbers = range(first, first + count)
                yield self._loaders[split.value].batch(numbers, size, key_of=lambda _: EVALUATION_KEY)

    def synthetic_batch(
        self,
        *,
        batch_size: int,
        seed: int,
        split: Split | None = None,
        num_ranks: int = 1,  # noqa: ARG002
    ) -> Batch:
        """Return an invented batch; every split's have one shape."""
        return invented_slices(Inventor(seed, split), batch_size, self.params.image_size)

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:  # noqa: ARG002
        """Return summed similarity, summed loss and the number of examples, in float64.

        Prediction and target are put back into the raw data's unit first; the target is the clipped one, as published.
        """
        predicted = model(batch["inputs"])
        similarity = similarity_in_raw_unit(predicted, batch)
        weights = batch["weights"].double()
        return {
            "ssim": (similarity * weights).sum(),
            "loss": _absolute_error(predicted, batch).sum(dtype=torch.float64),
            "num_examples": weights.sum(),
        }

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return mean similarity and mean loss over slices, and their number.

        Raises:
            WorkloadError: If not every example was counted exactly once.
        """
        counted, expected = round(float(sums["num_examples"])), self._num_examples(split)
        if counted != expected:
            raise WorkloadError(f"evaluated {counted} examples instead of {expected}", where=split.value)
        return {
            "ssim": float(sums["ssim"]) / counted,
            "loss": float(sums["loss"]) / counted,
            "num_examples": float(counted),
        }

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        """Set the rate of all dropout layers: two in every convolution block."""
        set_dropout_rate(model, rate)

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """Do nothing: there is no batch norm."""

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        """Return slices as input, prediction, target and error, with their similarities."""
        return reconstructions(model, batch)

    def _order(self, seed: int) -> UnitOrder:
        return UnitOrder.of_blocks([self._loaders[_TRAIN].num_examples], block_rows=1, seed=seed)

    def _num_examples(self, split: Split) -> int:
        if split is Split.EVAL_TRAIN:
            return min(self.params.eval_train_examples, self._loaders[_TRAIN].num_examples)
        return self._loaders[split.value].num_examples

    def _train_batch(self, rows: Sequence[RowRange], size: int, seed: int) -> Batch:
        numbers = [number for block in rows for number in range(block.first, block.first + block.count)]
        return self._loaders[_TRAIN].batch(numbers, size, key_of=lambda number: (seed, number))


def _absolute_error(predicted: Tensor, batch: Batch) -> Tensor:
    """Return the weighted mean absolute error of each image, shape ``[b]``."""
    error = (predicted - batch["targets"].to(predicted.dtype)).abs().mean(dim=(1, 2))
    return error * batch["weights"].to(predicted.dtype)


def _role(module: nn.Module, name: str) -> ParameterRole:
    match module, name:
        case nn.GroupNorm(), "weight":
            return ParameterRole.LAYER_NORM_SCALE
        case nn.GroupNorm(), _:
            return ParameterRole.LAYER_NORM_BIAS
        case _, "weight":
            return ParameterRole.CONV_WEIGHT
        case _:
            return ParameterRole.BIAS
