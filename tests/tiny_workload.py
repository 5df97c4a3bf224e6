"""A workload of one linear layer on generated rows: what the engine's tests train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from perfbench.api.picture import Picture, TablePanel
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard, TrainStream
from perfbench.data.inventing import Inventor
from perfbench.data.modules import seeded
from perfbench.data.sampling import BatchOrder, RowRange, UnitOrder, padded_part
from perfbench.data.stream import RowStream
from perfbench.errors import WorkloadError
from perfbench.spec.workload import Split, WorkloadSpec

NUM_ROWS = 64
NUM_FEATURES = 4


class TinyWorkload:
    """Least squares; the exact solution has loss 0."""

    loss_type = LossType.MEAN_SQUARED_ERROR

    def __init__(self, spec: WorkloadSpec) -> None:
        self.spec = spec
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(NUM_ROWS, NUM_FEATURES, generator=generator)
        self.targets = self.inputs @ torch.tensor([1.0, -2.0, 0.5, 3.0])

    def build_model(self, *, seed: int) -> nn.Module:
        with seeded(seed):
            return nn.Sequential(nn.Dropout(0.0), nn.Linear(NUM_FEATURES, 1))

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        return {"1.weight": ParameterRole.WEIGHT, "1.bias": ParameterRole.BIAS}

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        error = (model(batch["inputs"]).squeeze(1) - batch["targets"]) ** 2 * batch["weights"]
        return LossSums(error.sum(), batch["weights"].sum(), error)

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        units = UnitOrder.of_blocks([NUM_ROWS], block_rows=1, seed=seed)
        order = BatchOrder(units, global_batch_size=global_batch_size, shard=shard)
        size = global_batch_size // shard.num_ranks
        return RowStream(order, lambda ranges: self._batch(ranges, size))

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        size = global_batch_size // shard.num_ranks
        for first, count in padded_part(NUM_ROWS, global_batch_size=global_batch_size, shard=shard):
            yield self._batch([RowRange(first, count)], size)

    def synthetic_batch(self, *, batch_size: int, seed: int, split: Split | None = None, num_ranks: int = 1) -> Batch:
        drawn = Inventor(seed, split)
        return {
            "inputs": drawn.normal(batch_size, NUM_FEATURES),
            "targets": drawn.normal(batch_size),
            "weights": torch.ones(batch_size),
        }

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:
        error = (model(batch["inputs"]).squeeze(1) - batch["targets"]) ** 2 * batch["weights"]
        return {"loss": error.double().sum(), "num_examples": batch["weights"].double().sum()}

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        if round(float(sums["num_examples"])) != NUM_ROWS:
            raise WorkloadError(f"{float(sums['num_examples'])} examples", where=split.value)
        return {"loss": float(sums["loss"]) / NUM_ROWS, "num_examples": float(NUM_ROWS)}

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """There is no batch norm."""

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        table = TablePanel(title="", columns=("target",), rows=(("1",),), shares=(1.0,))
        return Picture(caption="rows", panels=(table,), num_columns=1)

    def _batch(self, ranges: Sequence[RowRange], size: int) -> Batch:
        batch = {
            "inputs": torch.zeros(size, NUM_FEATURES),
            "targets": torch.zeros(size),
            "weights": torch.zeros(size),
        }
        filled = 0
        for rows in ranges:
            source, target = slice(rows.first, rows.first + rows.count), slice(filled, filled + rows.count)
            batch["inputs"][target] = self.inputs[source]
            batch["targets"][target] = self.targets[source]
            batch["weights"][target] = 1.0
            filled += rows.count
        return batch
