"""Text to ids and back: GPT-2's byte-level pairs, whose two files are given, or pieces trained on the training text."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from perfbench.data.source_files import content_of, is_there
from perfbench.errors import DataError
from perfbench.results.files import atomic_file
from perfbench.workloads.finewebedu_lm.params import Params

ENCODER_FILE, MERGES_FILE = "encoder.json", "vocab.bpe"
PIECES_FILE = "tokenizer.model"
END_MARK = "<|endoftext|>"
_PIECES_END_ID = 1
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's pattern: where text is cut before pairs are merged."""
_GET_AGAIN = "fetch the vocabulary again: encoder.json and vocab.bpe of GPT-2, as the workload's README says"

Tokens = NDArray[np.uint16]


class Vocabulary(Protocol):
    """A prepared vocabulary. Picklable by what it is built from, so that worker processes have their own."""

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each document with the end mark; of an empty text none at all."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of consecutive ids; what is no whole character shows as U+FFFD, the end mark as nothing."""
        ...


class BytePairs:
    """GPT-2's vocabulary (or another one of the same form).

    Args:
        folder: Of its two files.

    Raises:
        DataError: If they do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        import tiktoken

        ranks, self.end_id = _read_ranks(folder)
        self._encoding = tiktoken.Encoding(
            name="gpt2", pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={END_MARK: self.end_id}
        )
        self._marks = {END_MARK}

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each document; the mark inside of a document is the mark, too, as published."""
        encode = self._encoding.encode_to_numpy
        return [
            encode(text + END_MARK, allowed_special=self._marks).astype(np.uint16) if text else _NONE for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of consecutive ids."""
        return self._encoding.decode([token for token in ids if token != self.end_id], errors="replace")


class Pieces:
    """A sentencepiece vocabulary.

    Args:
        path: Of its file.

    Raises:
        DataError: If the file is no vocabulary.
    """

    def __init__(self, path: Path) -> None:
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(path.read_bytes())
        except RuntimeError:
            raise DataError("is no sentencepiece model", where=str(path), hint="prepare the data again") from None
        self.vocab_size = int(self._processor.vocab_size())

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each document."""
        found = self._processor.encode(list(texts))
        return [np.asarray([*ids, _PIECES_END_ID], dtype=np.uint16) if ids else _NONE for ids in found]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of consecutive ids."""
        return str(self._processor.decode([int(token) for token in ids]))


_NONE: Tokens = np.zeros(0, dtype=np.uint16)


def opened(folder: Path, params: Params) -> Vocabulary:
    """Return the vocabulary whose files are in ``folder``."""
    return BytePairs(folder) if params.tokenizer == "gpt2" else Pieces(folder / PIECES_FILE)


def checked_files(folder: Path, sha256: Mapping[str, str]) -> dict[str, bytes]:
    """Return the contents of a given vocabulary's files.

    Raises:
        DataError: If one is missing, or is another one.
    """
    contents: dict[str, bytes] = {}
    for name, expected in sha256.items():
        path = folder / name
        if not is_there(path):
            raise DataError("the vocabulary's file is missing", where=str(path), hint=_GET_AGAIN)
        contents[name] = content_of(path)
        actual = hashlib.sha256(contents[name]).hexdigest()
        if actual != expected:
            raise DataError(
                f"another vocabulary: sha256 {actual}, expected {expected}", where=str(path), hint=_GET_AGAIN
            )
    return contents


def train_pieces(texts: Iterable[str], path: Path, *, vocab_size: int) -> None:
    """Train byte pairs with sentencepiece on whole documents, and write them.

    Text stays as it is (no normalisation, all spaces kept), and bytes stand for characters that are not in the
    vocabulary, so that decoding gives every document back.

    Raises:
        DataError: If the text is too small for the vocabulary.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            bos_id=-1,
            eos_id=_PIECES_END_ID,
            max_sentence_length=1 << 30,
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


def settings(params: Params) -> dict[str, JsonValue]:
    """Return what a manifest says about the vocabulary: prepared data fits a workload if these are equal."""
    return {
        "tokenizer": params.tokenizer,
        "vocab_size": params.vocab_size,
        "vocabulary_sha256": dict(params.vocabulary_sha256),
    }


def _read_ranks(folder: Path) -> tuple[dict[bytes, int], int]:
    """Return the id of every mergeable sequence of bytes, and the end mark's.

    Ids are also the order of merging: the file of merges is read to see that it is.
    """
    ids = json.loads((folder / ENCODER_FILE).read_bytes())
    merges = [line.split(" ") for line in (folder / MERGES_FILE).read_text(encoding="utf-8").splitlines()[1:] if line]
    byte_of = _bytes_by_character()
    if END_MARK not in ids:
        raise DataError(f"has no {END_MARK}", where=str(folder / ENCODER_FILE), hint=_GET_AGAIN)
    end_id = ids.pop(END_MARK)
    merged = [ids.get("".join(pair)) for pair in merges]
    if None in merged or merged != sorted(merged) or len(merged) + len(byte_of) != len(ids):
        raise DataError(f"does not fit {ENCODER_FILE} beside it", where=str(folder / MERGES_FILE), hint=_GET_AGAIN)
    return {bytes(byte_of[character] for character in text): number for text, number in ids.items()}, end_id


def _bytes_by_character() -> dict[str, int]:
    """Return which byte each character of GPT-2's files stands for: printable ones themselves, others U+0100 ..."""
    plain = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + number): byte for number, byte in enumerate(others)}
