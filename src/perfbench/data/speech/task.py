"""A speech workload without its model: batches, loss, evaluation, metrics. A family adds the model and its roles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from perfbench.api.picture import Picture, spread_examples
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard, TrainStream
from perfbench.data.inventing import Inventor
from perfbench.data.modules import seeded, set_dropout_rate
from perfbench.data.preparation import Manifest
from perfbench.data.sampling import BatchOrder, RowRange, UnitOrder, evaluation_ranges
from perfbench.data.speech.ctc import ctc_losses
from perfbench.data.speech.front_end import valid_frames
from perfbench.data.speech.invented import invented_utterances
from perfbench.data.speech.layers import MaskedBatchNorm
from perfbench.data.speech.params import SUBSAMPLING, SpeechParams
from perfbench.data.speech.picture import NUM_SHOWN, spectrograms
from perfbench.data.speech.preparation import shards_of, words_of
from perfbench.data.speech.storage import SplitReader
from perfbench.data.speech.tokenizer import Tokenizer
from perfbench.data.speech.word_errors import (
    greedy_ids,
    published_word_errors,
    without_blanks,
    word_errors,
)
from perfbench.data.splits import BySplit
from perfbench.data.stream import RowStream
from perfbench.errors import WorkloadError
from perfbench.spec.workload import Split, WorkloadSpec

_TRAIN = "train"


def encoder_frames(num_samples: Tensor, params: SpeechParams) -> Tensor:
    """Return how many encoder frames are valid, same shape."""
    frames = valid_frames(num_samples, params.num_frames)
    return torch.div(frames + (SUBSAMPLING - 1), SUBSAMPLING, rounding_mode="floor")


class SpeechWorkload(ABC):
    """Speech to text with CTC; the metric is the word error rate.

    A batch has ``audio`` int16 ``[b, max_samples]``, ``num_samples`` int32 ``[b]``, ``labels`` int32
    ``[b, max_labels]``, ``num_labels`` int32 ``[b]`` and ``weights`` float32 ``[b]`` (0 where padded). The model maps
    ``audio`` and ``num_samples`` to logits ``[b, encoder frames, pieces]``.

    Args:
        spec: Facts.
        params: The family's parameters.
        data_folder: Prepared data.
    """

    loss_type = LossType.CTC

    def __init__(self, spec: WorkloadSpec, params: SpeechParams, data_folder: Path) -> None:
        self.spec = spec
        self._params = params
        self._folder = data_folder

    @cached_property
    def _manifest(self) -> Manifest:
        return Manifest.read(self._folder, prepare_command=f"perfbench data prepare {self.spec.family}")

    @cached_property
    def _readers(self) -> dict[str, SplitReader]:
        shards = shards_of(self._manifest)
        return BySplit(lambda split: SplitReader(self._folder, split, shards))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the vocabulary of the prepared data."""
        return Tokenizer.read(self._folder)

    @abstractmethod
    def make_model(self) -> nn.Module:
        """Return the model, initialised from the global generator."""

    @abstractmethod
    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return the role of every parameter."""

    def build_model(self, *, seed: int) -> nn.Module:
        """Build the initialised model; the global generator is left as it was."""
        with seeded(seed):
            return self.make_model()

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:  # noqa: ARG002
        """Return the summed CTC loss in nats and the number of labels; label smoothing is ignored, as published."""
        logits = model(batch["audio"], batch["num_samples"])
        per_example, num_labels = self._losses(logits, batch)
        return LossSums(per_example.sum(), num_labels.sum().clamp(min=1).to(per_example.dtype), per_example)

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's stream over shuffled utterances.

        Raises:
            WorkloadError: If a rank's part is no multiple of the examples that share batch statistics.
        """
        size = shard.size_of(global_batch_size)
        self._require_whole_groups(size)
        order = BatchOrder(self._units(seed), global_batch_size=global_batch_size, shard=shard)
        return RowStream(order, lambda ranges: self._batch(_TRAIN, ranges, size))

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split, padded to equal shapes."""
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
        """Return an invented batch; every split's have one shape.

        Raises:
            WorkloadError: If a training batch is no multiple of the examples that share batch statistics.
        """
        if split is None:
            self._require_whole_groups(batch_size)
        return invented_utterances(Inventor(seed, split), self._params, batch_size)

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:  # noqa: ARG002
        """Return loss, labels, words and errors in float64.

        Text is compared on the host, so this waits for the device once in every batch (evaluation is not scored).
        """
        logits = model(batch["audio"], batch["num_samples"])
        losses, num_labels = self._losses(logits, batch)
        hypotheses, references = self._texts(logits, batch)
        standard, published = word_errors(hypotheses, references), published_word_errors(hypotheses, references)
        counts = {
            "errors": standard.errors,
            "words": standard.words,
            "errors_algoperf": published.errors,
            "words_algoperf": published.words,
        }
        return {
            "loss": losses.sum(dtype=torch.float64),
            "num_labels": num_labels.sum(dtype=torch.float64),
            "num_examples": batch["weights"].sum(dtype=torch.float64),
            **{name: torch.tensor(value, dtype=torch.float64, device=losses.device) for name, value in counts.items()},
        }

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return word error rates (standard, and as published), the mean loss of a label and the number of examples.

        Raises:
            WorkloadError: If not every utterance was counted exactly once, or its text did not come back whole.
        """
        found = {name: float(value) for name, value in sums.items()}
        expected = {"num_examples": self._num_examples(split)}
        if split is not Split.EVAL_TRAIN:
            expected["words"] = words_of(self._manifest)[split.value]
        for name, count in expected.items():
            if round(found[name]) != count:
                raise WorkloadError(f"{name}: evaluated {found[name]:.0f} instead of {count}", where=split.value)
        return {
            "wer": found["errors"] / found["words"],
            "wer_algoperf": found["errors_algoperf"] / found["words_algoperf"],
            "ctc_loss": found["loss"] / found["num_labels"],
            "num_examples": found["num_examples"],
        }

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        """Set the rate of every dropout layer."""
        set_dropout_rate(model, rate)

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """Let training forwards update the running statistics, or freeze them; batches are normalised as before."""
        for module in model.modules():
            if isinstance(module, MaskedBatchNorm):
                module.is_frozen = mode is BatchNormMode.FREEZE

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        """Return spectrograms with what was said and what the model decodes."""
        shown = spread_examples(batch, batch["weights"], count=NUM_SHOWN)
        hypotheses, references = self._texts(model(shown["audio"], shown["num_samples"]), shown)
        return spectrograms(batch, shown, hypotheses, references)

    def _texts(self, logits: Tensor, batch: Batch) -> tuple[list[str], list[str]]:
        """Return the decoded texts and the transcripts of the examples that are no padding."""
        counted = batch["weights"] > 0
        ids = greedy_ids(logits, self._num_frames(batch))
        hypotheses = self.tokenizer.decode(without_blanks(ids[counted]))
        return hypotheses, self.tokenizer.decode(without_blanks(self._masked_labels(batch)[counted]))

    def _losses(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return losses and label counts ``[b]``, zero where padded."""
        counted = batch["weights"] > 0
        num_labels = batch["num_labels"]
        losses = ctc_losses(logits, batch["labels"], self._num_frames(batch).clamp(min=1), num_labels)
        return torch.where(counted, losses, 0.0), torch.where(counted, num_labels, 0)

    def _num_frames(self, batch: Batch) -> Tensor:
        return encoder_frames(batch["num_samples"], self._params)

    def _masked_labels(self, batch: Batch) -> Tensor:
        places = torch.arange(batch["labels"].shape[1], device=batch["labels"].device)
        return torch.where(places < batch["num_labels"][:, None], batch["labels"], 0)

    def _require_whole_groups(self, size: int) -> None:
        group = self._params.batch_norm_examples
        if group is not None and size % group:
            raise WorkloadError(
                f"{size} examples on each rank are no multiple of the {group} that share batch statistics",
                where="workload.params.batch_norm_examples",
                hint="change the global batch size or the number of ranks, or set it to null (all of a rank's part)",
            )

    def _units(self, seed: int) -> UnitOrder:
        return UnitOrder.of_blocks([self._manifest.counts[_TRAIN]], block_rows=1, seed=seed)

    def _num_examples(self, split: Split) -> int:
        if split is Split.EVAL_TRAIN:
            return min(self._params.eval_train_examples, self._manifest.counts[_TRAIN])
        return self._manifest.counts[split.value]

    def _batch(self, stored_split: str, ranges: Sequence[RowRange], size: int) -> Batch:
        """Read utterances into a batch of ``size``; what the ranges do not fill is silent, without labels or weight."""
        audio = np.zeros((size, self._params.max_samples), dtype=np.int16)
        labels = np.zeros((size, self._params.max_labels), dtype=np.int32)
        num_samples, num_labels = np.zeros(size, dtype=np.int32), np.zeros(size, dtype=np.int32)
        reader, filled = self._readers[stored_split], 0
        for rows in ranges:
            for example in range(rows.first, rows.first + rows.count):
                num_samples[filled] = reader.read_audio(example, audio[filled])
                num_labels[filled] = reader.read_labels(example, labels[filled])
                filled += 1
        weights = torch.zeros(size)
        weights[:filled] = 1.0
        arrays = {"audio": audio, "num_samples": num_samples, "labels": labels, "num_labels": num_labels}
        return {name: torch.from_numpy(array) for name, array in arrays.items()} | {"weights": weights}
