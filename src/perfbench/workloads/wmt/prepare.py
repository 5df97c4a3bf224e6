"""From the public text files to a vocabulary and token arrays: streaming, resumable, checked; the manifest last."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from perfbench.data.preparation import (
    FileEntry,
    Manifest,
    PrepareRequest,
    entry_for,
    passing_folder,
    require_counts,
    small_data,
)
from perfbench.errors import DataError
from perfbench.results.files import append_line, read_lines, write_text_atomically
from perfbench.spec.base import Spec
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.wmt import archives, invented, trans_de_en
from perfbench.workloads.wmt.corpora import CORPORA, Corpus, pairs
from perfbench.workloads.wmt.params import Params
from perfbench.workloads.wmt.token_store import FORMAT_VERSION, SIDES, PairStore, file_names, write_side
from perfbench.workloads.wmt.tokenizer import FILE_NAME, SAMPLE_SEED, Tokenizer, sampled_pairs, train

REFERENCES = "references.txt"
"""Ending of the file with a corpus's published target text, one sentence per line."""
_PROGRESS = "corpora.jsonl"
_UNPACKED = "unpacked"
_BLOCK_PAIRS = 8_192


class Writer(Protocol):
    """A module that writes a small data set."""

    NAME: str

    def required_bytes(self) -> int:
        """Return how much disk the text and its prepared form need; refuse if what it is made from is missing."""
        ...

    def write_raw(self, folder: Path) -> dict[str, JsonValue]:
        """Write the public files into ``folder``; return where they come from."""
        ...


_WRITERS: dict[str, Writer] = {module.NAME: module for module in (invented, trans_de_en)}


class CorpusRecord(Spec):
    """A tokenised corpus; one line of ``corpora.jsonl`` while a preparation runs."""

    name: str
    num_pairs: int
    num_too_long: int
    """Pairs with more tokens than a row on either side."""
    files: dict[str, FileEntry]


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk the arrays (and text files) need at most: two bytes a token, eight a sentence.

    Raises:
        DataError: If files are missing, or a small data set's package.
    """
    if request.source is None:
        return _writer(request).required_bytes()
    return archives.required_bytes(request.source)


def prepare(request: PrepareRequest) -> Manifest:
    """Convert the source (or write a small one first) into ``request.destination``.

    Raises:
        DataError: If a file or package is missing, or a file misaligned or malformed: names file and line.
    """
    params = Params.from_mapping(request.workload.params, where="workload.params")
    if request.source is not None:
        return _convert(request, request.source, params, origin={"source": "public WMT17 de-en files"})
    writer = _writer(request)
    with passing_folder(request.destination / "raw") as raw:
        origin = writer.write_raw(raw)
        return _convert(request, raw, params, origin=origin)


def verify(workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what ``workload`` needs; reads only the manifest and file sizes.

    Raises:
        DataError: If files are missing or truncated, or counts or vocabulary are not the workload's.
    """
    manifest = Manifest.read_checked(folder, format_version=FORMAT_VERSION, prepare_command=prepare_command)
    params = Params.from_mapping(workload.params, where="workload.params")
    require_counts(
        manifest.counts,
        params.expected_examples.items(),
        unit="sentence pairs",
        where=str(folder / "manifest.json"),
        hint=f"delete the folder and run `{prepare_command}` on the complete data",
    )
    for name, needed in _vocabulary_settings(params).items():
        if manifest.origin.get(name) != needed:
            raise DataError(
                f"prepared with {name}={manifest.origin.get(name)}, the workload needs {needed}",
                where=str(folder / "manifest.json"),
                hint=f"delete the folder and run `{prepare_command}`",
            )
    return manifest


def corpora_of(split: str) -> list[str]:
    """Return the names of a split's corpora, in order."""
    return [corpus.name for corpus in CORPORA if corpus.split == split]


def _writer(request: PrepareRequest) -> Writer:
    hint = "fetch the WMT17 de-en archives that the workload's README lists, and give --source DIR"
    return small_data(_WRITERS, request.workload, hint=hint)


def _vocabulary_settings(params: Params) -> dict[str, JsonValue]:
    return {"vocab_size": params.vocab_size, "tokenizer_sample_bytes": params.tokenizer_sample_bytes}


def _convert(request: PrepareRequest, source: Path, params: Params, *, origin: dict[str, JsonValue]) -> Manifest:
    destination = request.destination
    destination.mkdir(parents=True, exist_ok=True)
    folders = archives.unpacked(source, destination / _UNPACKED, request.progress)
    if not _has_tokenizer(destination, params):
        (destination / _PROGRESS).unlink(missing_ok=True)  # what another vocabulary tokenised
        _train_tokenizer(request, folders, params)
    tokenizer = Tokenizer(destination / FILE_NAME)
    records = _finished(destination)
    for number, corpus in enumerate(CORPORA):
        request.progress("tokenising", number, len(CORPORA))
        if corpus.name not in records:
            record = _tokenize(folders[corpus.name], corpus, tokenizer, destination, row_length=params.row_length)
            append_line(destination / _PROGRESS, record.to_json(indent=None))
            records[corpus.name] = record
    request.progress("tokenising", len(CORPORA), len(CORPORA))
    counts = dict.fromkeys(("train", "validation", "test"), 0)
    files = {FILE_NAME: entry_for(destination / FILE_NAME)}
    for corpus in CORPORA:
        counts[corpus.split] += records[corpus.name].num_pairs
        files |= records[corpus.name].files
    manifest = Manifest(
        family=request.workload.family,
        dataset=request.workload.dataset,
        format_version=FORMAT_VERSION,
        origin={**origin, **_vocabulary_settings(params), "tokenizer_sample_seed": SAMPLE_SEED},
        counts=counts,
        facts={
            "tokenizer_blake2b": files[FILE_NAME].blake2b,
            f"pairs_over_{params.row_length}_tokens": {r.name: r.num_too_long for r in records.values()},
        },
        files=files,
    )
    manifest.write(destination)
    (destination / _PROGRESS).unlink()
    shutil.rmtree(destination / _UNPACKED, ignore_errors=True)
    return manifest


def _has_tokenizer(destination: Path, params: Params) -> bool:
    """Tell whether an interrupted preparation trained the vocabulary that is asked for."""
    path = destination / FILE_NAME
    return path.exists() and Tokenizer(path).vocab_size == params.vocab_size


def _train_tokenizer(request: PrepareRequest, folders: Mapping[str, Path], params: Params) -> None:
    """Train the vocabulary on a uniform sample of training pairs, which takes two passes over the text."""
    request.progress("reading", 0, 2)
    sizes = np.fromiter((_num_bytes(german, english) for german, english in _train_pairs(folders)), dtype=np.int32)
    if not len(sizes):
        raise DataError("has no training pair", where=str(request.source), hint="fetch the files again")
    request.progress("reading", 1, 2)
    chosen = sampled_pairs(sizes, sample_bytes=params.tokenizer_sample_bytes)
    texts = _chosen_texts(folders, chosen)
    train(texts, request.destination / FILE_NAME, vocab_size=params.vocab_size)
    request.progress("reading", 2, 2)


def _num_bytes(german: str, english: str) -> int:
    return len(german.encode()) + len(english.encode()) + 2


def _train_pairs(folders: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for corpus in CORPORA:
        if corpus.split == "train":
            yield from pairs(folders[corpus.name], corpus)


def _chosen_texts(folders: Mapping[str, Path], chosen: NDArray[np.int64]) -> Iterator[str]:
    wanted = set(chosen.tolist())
    for number, pair in enumerate(_train_pairs(folders)):
        if number in wanted:
            yield from pair


def _finished(destination: Path) -> dict[str, CorpusRecord]:
    """Return the corpora that an interrupted preparation finished and that are still whole."""
    records = [CorpusRecord.from_json(line, error=DataError) for line in read_lines(destination / _PROGRESS)]
    return {
        record.name: record
        for record in records
        if all(entry.is_whole(destination / name) for name, entry in record.files.items())
    }


def _tokenize(
    source: Path, corpus: Corpus, tokenizer: Tokenizer, destination: Path, *, row_length: int
) -> CorpusRecord:
    """Write the token arrays of a corpus, one language after the other, and the published text of a test set."""
    num_pairs = 0
    for index, side in enumerate(SIDES):
        blocks = (tokenizer.encode([pair[index] for pair in block]) for block in _blocks(pairs(source, corpus)))
        num_pairs = write_side(destination, corpus.name, side, blocks)
    if not num_pairs:
        raise DataError("has no sentence pair", where=str(source / corpus.german), hint="fetch the file again")
    names = file_names(corpus.name)
    if corpus.split != "train":
        names.append(f"{corpus.name}.{REFERENCES}")
        references = "".join(f"{english}\n" for _, english in pairs(source, corpus))
        write_text_atomically(destination / names[-1], references)
    store = PairStore(destination, [corpus.name])
    is_too_long = np.maximum(store.sources.lengths(), store.targets.lengths()) > row_length
    return CorpusRecord(
        name=corpus.name,
        num_pairs=num_pairs,
        num_too_long=int(is_too_long.sum()),
        files={name: entry_for(destination / name) for name in names},
    )


def _blocks(all_pairs: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    while block := list(itertools.islice(all_pairs, _BLOCK_PAIRS)):
        yield block
