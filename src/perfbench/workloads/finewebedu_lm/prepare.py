"""From parquet to a vocabulary and token files: streaming, resumable, checked; the manifest last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from perfbench.data.preparation import (
    Generated,
    Manifest,
    PrepareRequest,
    Progress,
    entry_for,
    passing_folder,
    require_counts,
    require_source_folder,
    small_data,
)
from perfbench.errors import DataError
from perfbench.results.files import append_line, atomic_file, digest_of_file, read_lines
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.finewebedu_lm import parquet, service_guides, vocabulary, world_english
from perfbench.workloads.finewebedu_lm.params import Params
from perfbench.workloads.finewebedu_lm.splits import SEED, SPLITS, SplitNumbers, split_of_documents
from perfbench.workloads.finewebedu_lm.token_store import FORMAT_VERSION
from perfbench.workloads.finewebedu_lm.tokenising import FileRecord, Job, tokenised

VOCABULARY_OPTION = "vocabulary"
_PROGRESS = "files.jsonl"
_BYTES_PER_TOKEN, _BYTES_PER_DOCUMENT = 2, 10
"""On disk: of a document its end, and the token that marks it."""


class Writer(Protocol):
    """A module that writes a small data set."""

    NAME: str

    def required_bytes(self) -> int:
        """Return how much disk the text and its prepared form need; refuse if what it is made from is missing."""
        ...

    def write_raw(self, folder: Path, progress: Progress) -> Generated:
        """Write public files into ``folder``."""
        ...


_WRITERS: dict[str, Writer] = {module.NAME: module for module in (world_english, service_guides)}


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk the token files need; all that can be known before work starts is checked.

    Raises:
        DataError: If a file, column, document or vocabulary is missing or another one, or a small data set's package.
    """
    params = _params(request.workload)
    if request.source is None:
        return _writer(request).required_bytes()
    files = _files(request.source, params)
    if params.tokenizer != "gpt2":
        return sum(path.stat().st_size for path, _ in files) * _BYTES_PER_TOKEN
    vocabulary.checked_files(_vocabulary_folder(request, request.source), params.vocabulary_sha256)
    num_tokens = sum(parquet.num_gpt2_tokens(path) for path, _ in files)
    return num_tokens * _BYTES_PER_TOKEN + sum(count for _, count in files) * _BYTES_PER_DOCUMENT


def prepare(request: PrepareRequest) -> Manifest:
    """Tokenise the source (or write a small one first) into ``request.destination``.

    Raises:
        DataError: If a file or package is missing, damaged or another one: names file and document.
    """
    params = _params(request.workload)
    if request.source is not None:
        return _convert(request, request.source, params, origin={"source": "public parquet files"}, facts={})
    writer = _writer(request)
    with passing_folder(request.destination / "raw") as raw:
        made = writer.write_raw(raw, request.progress)
        return _convert(request, raw, params, origin=made.origin, facts=made.facts)


def verify(workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what ``workload`` needs; reads only the manifest and file sizes.

    Raises:
        DataError: If files are missing or truncated, or counts or vocabulary are not the workload's.
    """
    manifest = Manifest.read_checked(folder, format_version=FORMAT_VERSION, prepare_command=prepare_command)
    params = _params(workload)
    where, hint = str(folder / "manifest.json"), f"delete the folder and run `{prepare_command}` on the complete data"
    require_counts(manifest.counts, params.expected_documents.items(), unit="documents", where=where, hint=hint)
    for name, needed in vocabulary.settings(params).items():
        if manifest.origin.get(name) != needed:
            raise DataError(
                f"prepared with {name}={manifest.origin.get(name)}, the workload needs {needed}", where=where, hint=hint
            )
    for split in SPLITS:
        num_rows = num_tokens_of(manifest, split) // (params.row_length + 1)
        if num_rows < params.evaluated_rows(split):
            raise DataError(
                f"{split} has {num_rows:,} rows of {params.row_length + 1} tokens, the workload evaluates "
                f"{params.evaluated_rows(split):,}",
                where=where,
                hint="evaluate fewer rows (workload.params), or prepare the complete data",
            )
    return manifest


def num_tokens_of(manifest: Manifest, split: str) -> int:
    """Return how many tokens a split has."""
    return manifest.counts[f"{split}_tokens"]


def _params(workload: WorkloadSpec) -> Params:
    return Params.from_mapping(workload.params, where="workload.params")


def _writer(request: PrepareRequest) -> Writer:
    hint = "fetch the files that the workload's README lists, and give --source DIR"
    return small_data(_WRITERS, request.workload, hint=hint)


def _vocabulary_folder(request: PrepareRequest, source: Path) -> Path:
    given = request.options.get(VOCABULARY_OPTION)
    return source if given is None else Path(str(given))


def _files(source: Path, params: Params) -> list[tuple[Path, int]]:
    """Return the public files, each with its number of documents.

    Raises:
        DataError: If there is none, one is damaged or has other columns, or documents are missing.
    """
    require_source_folder(source)
    files = [(path, parquet.num_documents(path)) for path in parquet.files_in(source)]
    needed, found = sum(params.expected_documents.values()), sum(count for _, count in files)
    if needed and found != needed:
        raise DataError(
            f"{len(files)} files with {found:,} documents, the workload needs {needed:,}",
            where=str(files[0][0].parent),
            hint="fetch the files that are missing; files of other data sets belong elsewhere",
        )
    return files


def _convert(
    request: PrepareRequest,
    source: Path,
    params: Params,
    *,
    origin: dict[str, JsonValue],
    facts: dict[str, JsonValue],
) -> Manifest:
    destination = request.destination
    destination.mkdir(parents=True, exist_ok=True)
    files = _files(source, params)
    splits = split_of_documents(sum(count for _, count in files))
    vocabulary_files = _put_vocabulary(request, source, params, files, splits)
    settings: dict[str, JsonValue] = {
        **vocabulary.settings(params),
        "vocabulary_blake2b": {name: digest_of_file(destination / name) for name in vocabulary_files},
        "split_seed": SEED,
        "num_documents": len(splits),
    }
    records = _tokenise(request, _jobs(destination, files, splits, params, settings))
    counts: dict[str, int] = {split: int((splits == index).sum()) for index, split in enumerate(SPLITS)}
    counts |= {f"{split}_tokens": sum(record.num_tokens[split] for record in records) for split in SPLITS}
    public: dict[str, JsonValue] = {
        record.name: {"size_bytes": record.size_bytes, "sha256": record.sha256, "num_documents": record.num_documents}
        for record in records
    }
    entries = {name: entry_for(destination / name) for name in vocabulary_files}
    manifest = Manifest(
        family=request.workload.family,
        dataset=request.workload.dataset,
        format_version=FORMAT_VERSION,
        origin={**origin, **settings, "files": public},
        counts=counts,
        facts=facts,
        files=entries | {name: entry for record in records for name, entry in record.files.items()},
    )
    manifest.write(destination)
    (destination / _PROGRESS).unlink(missing_ok=True)
    return manifest


def _put_vocabulary(
    request: PrepareRequest, source: Path, params: Params, files: Sequence[tuple[Path, int]], splits: SplitNumbers
) -> list[str]:
    """Write the vocabulary's files beside the tokens; return their names."""
    if params.tokenizer == "sentencepiece":
        request.progress("training the vocabulary", 0, 1)
        path = request.destination / vocabulary.PIECES_FILE
        vocabulary.train_pieces(_training_texts(files, splits), path, vocab_size=params.vocab_size)
        request.progress("training the vocabulary", 1, 1)
        return [path.name]
    contents = vocabulary.checked_files(_vocabulary_folder(request, source), params.vocabulary_sha256)
    for name, content in contents.items():
        with atomic_file(request.destination / name) as file:
            file.write(content)
    vocabulary.opened(request.destination, params)  # refuses files that do not fit together
    return list(contents)


def _training_texts(files: Sequence[tuple[Path, int]], splits: SplitNumbers) -> Iterator[str]:
    blocks = itertools.chain.from_iterable(parquet.texts(path) for path, _ in files)
    for text, split in zip(itertools.chain.from_iterable(blocks), splits.tolist(), strict=True):
        if SPLITS[split] == "train":
            yield text


def _jobs(
    destination: Path,
    files: Sequence[tuple[Path, int]],
    splits: SplitNumbers,
    params: Params,
    settings: dict[str, JsonValue],
) -> list[Job]:
    firsts = [0, *itertools.accumulate(count for _, count in files)]
    return [
        Job(
            path=path,
            number=number,
            first_document=first,
            splits=splits[first : first + count],
            destination=destination,
            params=params,
            settings=settings,
        )
        for number, ((path, count), first) in enumerate(zip(files, firsts[:-1], strict=True))
    ]


def _tokenise(request: PrepareRequest, jobs: Sequence[Job]) -> list[FileRecord]:
    """Do what an interrupted preparation left to do; return the records of all files, in their order."""
    progress_file = request.destination / _PROGRESS
    known = [FileRecord.from_json(line, error=DataError) for line in read_lines(progress_file)]
    records = {job.path.name: record for job in jobs for record in known if record.is_of(job)}
    total = sum(len(job.splits) for job in jobs)

    def tell() -> None:
        request.progress("tokenising", sum(record.num_documents for record in records.values()), total)

    tell()
    for record in tokenised([job for job in jobs if job.path.name not in records]):
        append_line(progress_file, record.to_json(indent=None))
        records[record.name] = record
        tell()
    return [records[job.path.name] for job in jobs]
