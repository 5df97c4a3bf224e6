"""The workload: data, model, loss and metric joined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from perfbench.api.picture import Picture
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard, TrainStream
from perfbench.data.modules import seeded
from perfbench.errors import WorkloadError
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.finewebedu_lm import vocabulary
from perfbench.workloads.finewebedu_lm.data import (
    TrainingRows,
    evaluation_batches,
    fixed_rows,
    invented_batch,
    stored_split,
)
from perfbench.workloads.finewebedu_lm.model import LanguageModel
from perfbench.workloads.finewebedu_lm.params import Params, StoredSplit
from perfbench.workloads.finewebedu_lm.picture import text_panels
from perfbench.workloads.finewebedu_lm.token_store import Rows

_ROLES = {
    "w_qkv": ParameterRole.ATTENTION_QKV,
    "w_out": ParameterRole.ATTENTION_OUT,
    "embed_tokens": ParameterRole.EMBEDDING,
    "embed_positions": ParameterRole.EMBEDDING,
}
"""By the name of the module that holds the parameter."""
_LARGEST_EXPONENT = 700.0
"""Of a number that is not infinite."""


def build(spec: WorkloadSpec, data_folder: Path) -> LanguageModelling:
    """Build the workload; its data is opened when the first batch is asked for."""
    return LanguageModelling(spec, data_folder)


class LanguageModelling:
    """Predict the next token; the loss is the cross-entropy in nats per token, the metric perplexity.

    A batch has ``input_ids`` and ``target_ids``, int32 ``[b, row_length]``; evaluation batches also ``weights``
    float32 ``[b]`` (0 where the row is padded).
    """

    loss_type = LossType.SOFTMAX_CROSS_ENTROPY

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.spec = spec
        self.params = Params.from_mapping(spec.params, where="workload.params")
        self._folder = data_folder
        self._rows = lru_cache(maxsize=None)(self._open_rows)
        self._training_rows = lru_cache(maxsize=1)(self._order_rows)

    @cached_property
    def vocabulary(self) -> vocabulary.Vocabulary:
        """The prepared vocabulary."""
        return vocabulary.opened(self._folder, self.params)

    def build_model(self, *, seed: int) -> LanguageModel:
        """Build the initialised model; the global generator is left as it was."""
        with seeded(seed):
            return LanguageModel(self.params)

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return roles by the class and name of the module that holds the parameter."""
        return {
            f"{prefix}.{name}": _role(module, prefix.rpartition(".")[2], name)
            for prefix, module in model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        """Return the summed cross-entropy of all tokens; examples are rows, ``num_valid`` counts tokens."""
        losses = model(batch["input_ids"], batch["target_ids"], label_smoothing=label_smoothing)
        per_example = losses.sum(dim=1)
        return LossSums(per_example.sum(), torch.full_like(per_example[0], losses.numel()), per_example)

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's stream of rows."""
        return self._training_rows(seed).stream(global_batch_size=global_batch_size, shard=shard)

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split; the seed chooses the rows of ``eval_train``, the others are fixed."""
        stored = stored_split(split)
        rows, count = self._rows(stored), self.params.evaluated_rows(stored)
        numbers = self._training_rows(seed).sample(count) if stored == "train" else fixed_rows(len(rows), count)
        yield from evaluation_batches(rows, numbers, global_batch_size=global_batch_size, shard=shard)

    def synthetic_batch(
        self,
        *,
        batch_size: int,
        seed: int,
        split: Split | None = None,
        num_ranks: int = 1,  # noqa: ARG002
    ) -> Batch:
        """Return this rank's invented rows, which need no data, of training if ``split`` is ``None``."""
        return invented_batch(self.params, batch_size=batch_size, seed=seed, is_weighted=split is not None)

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:  # noqa: ARG002
        """Return summed loss and counts of tokens and rows; the same for every split."""
        losses = model(batch["input_ids"], batch["target_ids"])
        weights = batch["weights"].to(torch.float64)
        return {
            "loss": (losses.sum(dim=1, dtype=torch.float64) * weights).sum(),
            "num_tokens": weights.sum() * losses.shape[1],
            "num_examples": weights.sum(),
        }

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return loss per token and perplexity, its exponential, once over the whole split, and what was counted.

        Raises:
            WorkloadError: If not every row was counted exactly once.
        """
        counted, expected = round(float(sums["num_examples"])), self.params.evaluated_rows(stored_split(split))
        if counted != expected:
            raise WorkloadError(f"evaluated {counted} rows instead of {expected}", where=split.value)
        loss = float(sums["loss"]) / float(sums["num_tokens"])
        return {
            "loss": loss,
            "perplexity": math.exp(loss) if loss < _LARGEST_EXPONENT else math.inf,
            "num_tokens": float(sums["num_tokens"]),
            "num_examples": float(counted),
        }

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        """Do nothing: the model has no dropout."""

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """Do nothing: there is no batch norm."""

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        """Return text with the loss of every token, and the model's own continuations."""
        return text_panels(model, batch, self.vocabulary)

    def _open_rows(self, split: StoredSplit) -> Rows:
        return Rows(self._folder, split, num_columns=self.params.row_length + 1)

    def _order_rows(self, seed: int) -> TrainingRows:
        return TrainingRows(self._rows("train"), seed=seed)


def _role(module: nn.Module, module_name: str, name: str) -> ParameterRole:
    match module, name:
        case nn.RMSNorm() | nn.LayerNorm(), "weight":
            return ParameterRole.LAYER_NORM_SCALE
        case nn.LayerNorm(), _:
            return ParameterRole.LAYER_NORM_BIAS
        case _:
            return _ROLES.get(module_name, ParameterRole.WEIGHT)
