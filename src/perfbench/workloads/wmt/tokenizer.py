"""The joint subword vocabulary: trained once by sentencepiece, kept beside the token arrays."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from perfbench.errors import DataError
from perfbench.results.files import atomic_file
from perfbench.workloads.wmt.params import EOS_ID

FILE_NAME = "tokenizer.model"
SAMPLE_SEED = 17
"""Of the pairs that the vocabulary is trained on."""


def sampled_pairs(pair_bytes: NDArray[np.int32], *, sample_bytes: int, seed: int = SAMPLE_SEED) -> NDArray[np.int64]:
    """Return which pairs train the vocabulary, in stored order: a uniform sample of at least ``sample_bytes``.

    Args:
        pair_bytes: UTF-8 bytes of both sides of every training pair, newlines counted.
        sample_bytes: Enough.
        seed: Of the sample.

    >>> sampled_pairs(np.asarray([5, 5, 5, 5], dtype=np.int32), sample_bytes=10).size
    2
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(pair_bytes))
    total = np.cumsum(pair_bytes[order], dtype=np.int64)
    return np.sort(order[: int(np.searchsorted(total, sample_bytes)) + 1]).astype(np.int64)


def train(texts: Iterable[str], path: Path, *, vocab_size: int) -> None:
    """Train a unigram vocabulary and write it.

    Everything is at the library's defaults but size and character coverage, as published.

    Raises:
        DataError: If the text is too small for the vocabulary.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            character_coverage=1.0,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as problem:
        raise DataError(
            f"no vocabulary of {vocab_size} pieces: {str(problem).strip().splitlines()[-1]}",
            where=str(path),
            hint="the training text is too small or damaged, or workload.params.vocab_size too large",
        ) from None
    with atomic_file(path) as file:
        file.write(model.getvalue())


class Tokenizer:
    """Text to ids and back.

    Raises:
        DataError: If the file is no vocabulary.
    """

    def __init__(self, path: Path) -> None:
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(path.read_bytes())
        except RuntimeError:
            raise DataError("is no sentencepiece model", where=str(path), hint="prepare the data again") from None
        self.vocab_size = int(self._processor.vocab_size())

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.uint16]]:
        """Return the pieces of each text, and EOS."""
        return [np.asarray([*ids, EOS_ID], dtype=np.uint16) for ids in self._processor.encode(list(texts))]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each sequence; EOS prints as nothing."""
        return [str(text) for text in self._processor.decode([list(sequence) for sequence in ids])]
