"""The workload contract: what a benchmark task gives, and nothing about who trains it or how it is launched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from perfbench.spec.workload import Split, WorkloadSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from perfbench.api.picture import Picture

Batch = dict[str, "Tensor"]
"""Named tensors whose first dimension is the example. Shapes never change within a split (padding + weights)."""


class LossType(StrEnum):
    """The family of the loss; what second-order submissions need to know of it."""

    SOFTMAX_CROSS_ENTROPY = "softmax_cross_entropy"
    SIGMOID_CROSS_ENTROPY = "sigmoid_cross_entropy"
    MEAN_SQUARED_ERROR = "mean_squared_error"
    CTC = "ctc"
    MEAN_ABSOLUTE_ERROR = "mean_absolute_error"


class ParameterRole(StrEnum):
    """What a parameter does in its model: the only thing about it that a submission may branch on."""

    WEIGHT = "weight"
    BIAS = "bias"
    CONV_WEIGHT = "conv_weight"
    BATCH_NORM_SCALE = "batch_norm_scale"
    BATCH_NORM_BIAS = "batch_norm_bias"
    LAYER_NORM_SCALE = "layer_norm_scale"
    LAYER_NORM_BIAS = "layer_norm_bias"
    EMBEDDING = "embedding"
    ATTENTION_Q = "attention_q"
    ATTENTION_K = "attention_k"
    ATTENTION_V = "attention_v"
    ATTENTION_OUT = "attention_out"
    ATTENTION_QKV = "attention_qkv"
    ATTENTION_KV = "attention_kv"
    ATTENTION_BIAS = "attention_bias"


class BatchNormMode(StrEnum):
    """Whether training forwards update batch-norm running statistics."""

    UPDATE = "update"
    FREEZE = "freeze"


class LossSums(NamedTuple):
    """One rank's loss over its part of a batch. Nothing here is reduced over ranks."""

    summed: Tensor
    """Scalar: sum over valid examples, differentiable."""
    num_valid: Tensor
    """Scalar of the same dtype: how many examples (tokens, pixels) the sum counts."""
    per_example: Tensor
    """Shape ``[examples]``; zero where padded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One rank's place among all ranks of a trial."""

    rank: int = 0
    num_ranks: int = 1

    def part_of(self, total: int) -> slice:
        """Return this rank's equal part of ``total`` items; ``total`` must be divisible by the ranks.

        >>> Shard(rank=1, num_ranks=2).part_of(8)
        slice(4, 8, None)
        """
        size, remainder = divmod(total, self.num_ranks)
        assert remainder == 0, f"{total=} is not divisible by {self.num_ranks=}"
        return slice(self.rank * size, (self.rank + 1) * size)

    def size_of(self, total: int) -> int:
        """Return how many of ``total`` items are this rank's.

        >>> Shard(rank=1, num_ranks=2).size_of(8)
        4
        """
        part = self.part_of(total)
        size: int = part.stop - part.start
        return size


class TrainStream(Iterator[Batch], Protocol):
    """Endless training batches of one rank, in an order that is a pure function of the seed.

    Batches are on the CPU; the engine moves them. The union over ranks is the single-rank stream: with equal
    global batch size, global batch ``k`` holds the same examples in the same order for any number of ranks.
    """

    def __next__(self) -> Batch:
        """Return this rank's part of the next global batch."""
        ...

    def example_ids(self, batch_index: int) -> NDArray[np.int64]:
        """Return the numbers of the examples in this rank's part of global batch ``batch_index`` (from 0)."""
        ...

    def state_dict(self) -> dict[str, int]:
        """Return the position: everything that continues the stream after the last returned batch."""
        ...

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from a position."""
        ...

    def close(self) -> None:
        """Stop background work; the stream is not used afterwards."""
        ...


class Workload(Protocol):
    """Data, model, loss and metric of one task. No method calls a collective or knows what trains it."""

    @property
    def spec(self) -> WorkloadSpec:
        """The facts that this workload was built from."""
        ...

    @property
    def loss_type(self) -> LossType:
        """The family of the loss."""
        ...

    def build_model(self, *, seed: int) -> nn.Module:
        """Build the initialised model on the CPU in float32; the same seed gives the same bits."""
        ...

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return the role of every named parameter of ``model``."""
        ...

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        """Return the training loss of one rank's part of a batch; compiled whole together with the model.

        Workloads whose loss has no smoothing ignore ``label_smoothing``.
        """
        ...

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's training stream."""
        ...

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split, once, padded to equal shapes.

        Every rank yields the same number of batches, every example is in exactly one of them, and padded
        examples carry weight zero. ``seed`` fixes which training examples ``eval_train`` holds.
        """
        ...

    def synthetic_batch(self, *, batch_size: int, seed: int, split: Split | None = None, num_ranks: int = 1) -> Batch:
        """Return an invented batch on the CPU; what is compiled with it fits real ones, and no prepared data is needed.

        Names (in order), shapes, strides, dtypes and value ranges are those of one rank's part of a real batch. The
        values are random and as unequal as real ones, so that speed can be measured on them. No global generator
        is moved.

        Args:
            batch_size: Examples of this rank: the global batch size over ``num_ranks``.
            seed: The same one gives the same bits.
            split: As in evaluating it; ``None``: as in training.
            num_ranks: Ranks that share a batch. What is sized by the global batch (packs) depends on it.

        Raises:
            WorkloadError: If the ranks cannot share such a batch.
            DataError: If it cannot be cut into what the model reads.
        """
        ...

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:
        """Return quantities of one batch that add over batches and ranks (float64 where they are sums).

        ``model`` is compiled, in evaluation mode, without gradients. Nothing here waits for the device.
        """
        ...

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Turn the added sums (on the CPU) into metrics by plain name. Pure.

        Raises:
            WorkloadError: If the sums do not cover the split exactly.
        """
        ...

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        """Set the dropout rate of the model (in [0, 1)); must take effect at the next forward."""
        ...

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """Let training forwards update batch-norm statistics, or freeze them; nothing without batch norm."""
        ...

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        """Return what a few examples of a batch look like to the model, and what the model makes of them.

        Args:
            model: In evaluation mode, without gradients, on the device of the batch; compiled or not.
            batch: Of training or of evaluation. It stays as it is.
        """
        ...
