"""The SentencePiece tokenizer: trained as the benchmark says, checked, named by its digest."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from perfbench.data.speech.params import BLANK_ID, END_ID
from perfbench.errors import DataError

FILE_NAME = "tokenizer.model"
_CONTROL_PIECES = ("<unk>", "<s>", "</s>")
_MAX_CHARACTERS = 10_000_000
"""Of training text, as published: more than the subset has."""
_QUIET = 2


def train(transcripts: Iterable[str], *, vocabulary_size: int, is_exact: bool) -> bytes:
    """Train a unigram model and return its file; the order of the transcripts matters.

    Raises:
        DataError: If the text is too small for the vocabulary.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_limited(transcripts),
            model_writer=model,
            vocab_size=vocabulary_size,
            character_coverage=1.0,
            model_type="unigram",
            hard_vocab_limit=is_exact,
            minloglevel=_QUIET,
        )
    except RuntimeError as problem:
        raise DataError(
            f"the tokenizer cannot be trained: {str(problem).splitlines()[-1]}",
            where=f"vocabulary of {vocabulary_size}",
            hint="the training text must be the complete subset",
        ) from None
    return model.getvalue()


def _limited(transcripts: Iterable[str]) -> Iterable[str]:
    num_characters = 0
    for transcript in transcripts:
        num_characters += len(transcript)
        if num_characters > _MAX_CHARACTERS:
            return
        yield transcript


class Tokenizer:
    """Text to ids and back. Id 0 is the CTC blank (and ``<unk>``), 2 the end of the utterance.

    Args:
        model: Content of a SentencePiece model file.

    Raises:
        DataError: If the control pieces are others than the workloads assume.
    """

    def __init__(self, model: bytes) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        found = tuple(self._processor.id_to_piece(index) for index in range(len(_CONTROL_PIECES)))
        if found != _CONTROL_PIECES:
            raise DataError(f"the first pieces are {found} instead of {_CONTROL_PIECES}", where=FILE_NAME)

    @classmethod
    def read(cls, folder: Path) -> Tokenizer:
        """Read the tokenizer of a prepared data set."""
        return cls((folder / FILE_NAME).read_bytes())

    @property
    def num_pieces(self) -> int:
        """Size of the vocabulary, control pieces included."""
        return int(self._processor.get_piece_size())

    def encode(self, transcript: str) -> list[int]:
        """Return the ids of a transcript, the end piece last.

        Raises:
            DataError: If the text does not come back from the ids, or an id is the blank: training would stall.
        """
        ids: list[int] = self._processor.encode(transcript, add_eos=True)
        if BLANK_ID in ids or ids[-1] != END_ID or self._processor.decode(ids) != transcript:
            raise DataError(
                f"the tokenizer does not cover {transcript[:60]!r}",
                where=FILE_NAME,
                hint="its training text lacks a character: it must be the complete subset",
            )
        return ids

    def decode(self, sequences: Sequence[list[int]]) -> list[str]:
        """Return the text of each sequence of ids; control pieces are dropped wherever they stand."""
        texts: list[str] = self._processor.decode(list(sequences)) if sequences else []
        return texts
