"""The workload: data, model, loss, beam search and metric joined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.api.picture import Picture
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard, TrainStream
from perfbench.data.inventing import Inventor
from perfbench.data.modules import seeded, set_dropout_rate
from perfbench.data.preparation import Manifest
from perfbench.data.splits import BySplit
from perfbench.errors import WorkloadError
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.wmt import bleu
from perfbench.workloads.wmt.beam import BeamSearch
from perfbench.workloads.wmt.data import (
    EvaluationPairs,
    References,
    TrainingRows,
    eval_train_pairs,
    fitting_pairs,
    stored_split,
)
from perfbench.workloads.wmt.invented_rows import invented_pairs, invented_rows
from perfbench.workloads.wmt.model import KeysValues, Pairs, Side, Step, Transformer
from perfbench.workloads.wmt.params import EOS_ID, Params
from perfbench.workloads.wmt.picture import sentence_table
from perfbench.workloads.wmt.prepare import corpora_of
from perfbench.workloads.wmt.token_store import PairStore
from perfbench.workloads.wmt.tokenizer import FILE_NAME, Tokenizer

_ROLES = {
    "qkv": ParameterRole.ATTENTION_QKV,
    "query": ParameterRole.ATTENTION_Q,
    "kv": ParameterRole.ATTENTION_KV,
    "out": ParameterRole.ATTENTION_OUT,
}
"""By the name of the module that holds the parameter."""
_LARGEST_EXPONENT = 700.0
"""Of a number that is not infinite."""


def build(spec: WorkloadSpec, data_folder: Path) -> WmtWorkload:
    """Build the workload on its prepared data."""
    return WmtWorkload(spec, data_folder)


class WmtWorkload:
    """Translate; the loss is the cross-entropy in nats per target token, the metric BLEU of beam search.

    A batch has ``source_ids``, ``source_positions``, ``source_segments`` and the same of ``target``, int32
    ``[b, row_length]``; evaluation batches also ``weights`` float32 ``[b]`` (0 where the row is padded) and
    ``pairs`` int64 ``[b]`` (which pair of the split).
    """

    loss_type = LossType.SOFTMAX_CROSS_ENTROPY

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.spec = spec
        self.params = Params.from_mapping(spec.params, where="workload.params")
        self._folder = data_folder
        self._rows = lru_cache(maxsize=1)(self._deal_rows)
        self._search = BeamSearch(
            num_beams=self.params.beam_size,
            max_length=self.params.row_length,
            length_penalty=self.params.length_penalty,
        )

    @cached_property
    def _counts(self) -> dict[str, int]:
        return Manifest.read(self._folder, prepare_command=f"perfbench data prepare {self.spec.family}").counts

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the vocabulary of the prepared data."""
        return Tokenizer(self._folder / FILE_NAME)

    @cached_property
    def _stores(self) -> dict[str, PairStore]:
        return BySplit(lambda split: PairStore(self._folder, corpora_of(split)))

    @cached_property
    def _references(self) -> dict[str, References]:
        return BySplit(lambda split: References(self._folder, split, self._stores[split], self.tokenizer))

    @cached_property
    def _num_eval_train(self) -> int:
        num_fitting = len(fitting_pairs(self._stores["train"], row_length=self.params.row_length))
        return min(self.params.eval_train_examples, num_fitting)

    def build_model(self, *, seed: int) -> Transformer:
        """Build the initialised model; the global generator is left as it was."""
        with seeded(seed):
            return Transformer(self.params)

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return roles by the class and name of the module that holds the parameter."""
        return {
            f"{prefix}.{name}": _role(module, prefix.rpartition(".")[2], name)
            for prefix, module in model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        """Return the summed cross-entropy of real target tokens; examples are rows, ``num_valid`` counts tokens."""
        logits = model(_pairs(batch))
        is_real = batch["target_segments"] > 0
        losses = _cross_entropy(logits, batch, label_smoothing=label_smoothing) * is_real
        per_example = losses.sum(dim=1)
        return LossSums(per_example.sum(), is_real.sum().to(losses.dtype), per_example)

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's stream of rows."""
        return self._rows(seed).stream(global_batch_size=global_batch_size, seed=seed, shard=shard)

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split, one pair in a row; the seed chooses the pairs of ``eval_train``."""
        store = self._stores[stored_split(split)]
        if split is Split.EVAL_TRAIN:
            chosen = eval_train_pairs(self._rows(seed), self._num_eval_train)
        else:
            chosen = np.arange(len(store.sources))
        pairs = EvaluationPairs(store, chosen, row_length=self.params.row_length)
        yield from pairs.batches(global_batch_size=global_batch_size, shard=shard)

    def synthetic_batch(
        self,
        *,
        batch_size: int,
        seed: int,
        split: Split | None = None,
        num_ranks: int = 1,  # noqa: ARG002
    ) -> Batch:
        """Return invented rows: in training packed as real ones are, in evaluation of one sentence each."""
        drawn = Inventor(seed, split)
        if split is None:
            return invented_rows(drawn, self.params, batch_size)
        pairs = torch.arange(batch_size) % min(self.params.expected_examples.values())  # numbers that every split has
        return invented_pairs(drawn, self.params, batch_size) | {"weights": torch.ones(batch_size), "pairs": pairs}

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:
        """Return summed loss, right tokens, counts of tokens and sentences, and BLEU's counts if sentences are decoded.

        Decoding waits for the device: which words a translation has is known on the CPU only.
        """
        logits = model(_pairs(batch))
        weights = (batch["target_segments"] > 0) * batch["weights"][:, None]
        is_right = logits.argmax(dim=-1) == batch["target_ids"]
        sums = {
            "loss": (_cross_entropy(logits, batch) * weights).sum(dtype=torch.float64),
            "right": (is_right * weights).sum(dtype=torch.float64),
            "num_tokens": weights.sum(dtype=torch.float64),
            "num_examples": batch["weights"].sum(dtype=torch.float64),
        }
        if self.params.decodes:
            sums |= self._bleu_sums(model, batch, split)
        return sums

    def _bleu_sums(self, model: nn.Module, batch: Batch, split: Split) -> dict[str, Tensor]:
        hypotheses = self.translations(model, batch)
        is_real = batch["weights"].tolist()
        real = [index for index, weight in enumerate(is_real) if weight > 0]
        all_pairs = batch["pairs"].tolist()
        pairs = [all_pairs[index] for index in real]
        chosen = [hypotheses[index] for index in real]
        references = self._references[stored_split(split)]
        texts = {"bleu": references.round_trip(pairs)}
        if split is not Split.EVAL_TRAIN:  # the text of training pairs is not kept
            texts["bleu_raw"] = references.published(pairs)
        device = batch["weights"].device
        return {name: torch.from_numpy(bleu.counts(chosen, expected)).to(device) for name, expected in texts.items()}

    def translations(self, model: nn.Module, batch: Batch) -> list[str]:
        """Return the best translation of every row by beam search.

        Args:
            model: In evaluation mode, without gradients; compiled or not.
            batch: Of evaluation: one sentence in a row.
        """
        found = self._decoded(model, _side(batch, "source"))
        return self.tokenizer.decode([self._words(sequence) for sequence in found.tolist()])

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return loss and accuracy per token, perplexity, BLEU, and how many sentences and tokens were counted.

        Perplexity is ``exp`` of the loss per target token, EOS included: it depends on the vocabulary.

        Raises:
            WorkloadError: If not every sentence was counted exactly once.
        """
        counted, expected = round(float(sums["num_examples"])), self._num_examples(split)
        if counted != expected:
            raise WorkloadError(f"evaluated {counted} sentences instead of {expected}", where=split.value)
        num_tokens = float(sums["num_tokens"])
        scores = {name: bleu.score(sums[name].numpy()) for name in ("bleu", "bleu_raw") if name in sums}
        loss = float(sums["loss"]) / num_tokens
        return {
            "loss": loss,
            "perplexity": math.exp(loss) if loss < _LARGEST_EXPONENT else math.inf,
            "accuracy": float(sums["right"]) / num_tokens,
            **scores,
            "num_tokens": num_tokens,
            "num_examples": float(counted),
        }

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        """Set one rate everywhere: embeddings, attention weights, activations and sub-layer outputs."""
        set_dropout_rate(model, rate)

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """Do nothing: there is no batch norm."""

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        """Return sentence pairs with the model's translations."""
        return sentence_table(batch, self.tokenizer, lambda rows: self.translations(model, rows))

    def _deal_rows(self, seed: int) -> TrainingRows:
        return TrainingRows(self._stores["train"], self.params, seed=seed)

    def _num_examples(self, split: Split) -> int:
        if split is Split.EVAL_TRAIN:
            return self._num_eval_train
        return self._counts[split.value]

    def _decoded(self, model: nn.Module, sources: Side) -> Tensor:
        """Return the best sequence of every sentence, ``[b, row_length]``, the start id first."""
        memory = cast("tuple[KeysValues, ...]", model(sources))
        mask = sources.segments > 0
        b, heads, _, channels = memory[0].keys.shape
        slots = self._search.max_length * self._search.num_beams
        cache = tuple(
            KeysValues(*(layer.keys.new_zeros(b, heads, slots, channels) for _ in range(2))) for layer in memory
        )

        def next_logits(tokens_bk: Tensor, index: Tensor, ancestors_bkt: Tensor) -> Tensor:
            return cast("Tensor", model(Step(tokens_bk, index, ancestors_bkt, memory, mask, cache)))

        found = self._search.run(next_logits, num_sentences=b, device=memory[0].keys.device)
        return found.tokens[:, 0]

    def _words(self, sequence: list[int]) -> list[int]:
        """Return the tokens of a decoded sequence up to its EOS, or all of them where it has none."""
        tokens = sequence[1:]
        if EOS_ID in tokens:
            return tokens[: tokens.index(EOS_ID)]
        return tokens[:1] if self.params.as_published else tokens


def _side(batch: Batch, side: str) -> Side:
    return Side(batch[f"{side}_ids"], batch[f"{side}_positions"], batch[f"{side}_segments"])


def _pairs(batch: Batch) -> Pairs:
    return Pairs(_side(batch, "source"), _side(batch, "target"))


def _cross_entropy(logits: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of every target position ``[b, t]``, padding included."""
    targets = batch["target_ids"].long()
    return functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none", label_smoothing=label_smoothing
    ).view_as(targets)


def _role(module: nn.Module, module_name: str, name: str) -> ParameterRole:
    match module, name:
        case nn.Embedding(), _:
            return ParameterRole.EMBEDDING
        case nn.LayerNorm(), "weight":
            return ParameterRole.LAYER_NORM_SCALE
        case nn.LayerNorm(), _:
            return ParameterRole.LAYER_NORM_BIAS
        case _, "bias":
            return ParameterRole.BIAS
        case _:
            return _ROLES.get(module_name, ParameterRole.WEIGHT)
