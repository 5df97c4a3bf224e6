"""Public files to token files, one after another or in worker processes, each whole or not at all."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from perfbench.data.preparation import FileEntry, entry_for
from perfbench.data.source_files import opened as opened_file
from perfbench.data.source_files import reading
from perfbench.errors import DataError
from perfbench.spec.base import Spec
from perfbench.workloads.finewebedu_lm import parquet
from perfbench.workloads.finewebedu_lm.params import Params, StoredSplit
from perfbench.workloads.finewebedu_lm.splits import SPLITS, SplitNumbers
from perfbench.workloads.finewebedu_lm.token_store import file_names, write_documents
from perfbench.workloads.finewebedu_lm.vocabulary import opened

_BLOCK_BYTES = 1 << 22


class FileRecord(Spec):
    """A tokenised public file; one line of the progress file while a preparation runs."""

    name: str
    size_bytes: int
    sha256: str
    first_document: int
    num_documents: int
    num_tokens: dict[StoredSplit, int]
    settings: dict[str, JsonValue]
    """Everything else that decides what the token files hold: a continued preparation has the same."""
    files: dict[str, FileEntry]

    def is_of(self, job: Job) -> bool:
        """Tell whether it is what the job would do, and all is still there."""
        return (
            (self.name, self.first_document, self.num_documents) == (job.path.name, job.first_document, len(job.splits))
            and self.size_bytes == job.path.stat().st_size
            and self.settings == job.settings
            and all(entry.is_whole(job.destination / name) for name, entry in self.files.items())
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A public file to tokenise."""

    path: Path
    number: int
    first_document: int
    splits: SplitNumbers
    """Of its documents."""
    destination: Path
    """Also holds the vocabulary."""
    params: Params
    settings: dict[str, JsonValue]


def tokenised(jobs: Sequence[Job], *, num_processes: int | None = None) -> Iterator[FileRecord]:
    """Yield what was done, as it is done.

    Args:
        jobs: What to do.
        num_processes: Workers; as many as there are processors, or files, if ``None``.

    Raises:
        DataError: If a file is damaged, another one, or holds a document without text; or if a worker dies.
    """
    num_processes = num_processes or min(len(jobs), len(os.sched_getaffinity(0)))
    if num_processes <= 1:
        yield from map(tokenise, jobs)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks of threads that it does not have
    problem: DataError | None = None
    with ProcessPoolExecutor(num_processes, mp_context=context) as workers:
        waiting = [workers.submit(tokenise, job) for job in jobs]
        for done in as_completed(waiting):
            if done.cancelled():
                continue
            try:
                yield _result(done, jobs[0].destination)
            except DataError as found:  # what the other workers are at is finished, and need not be done again
                problem = problem or found
                for future in waiting:
                    future.cancel()
    if problem is not None:
        raise problem


def tokenise(job: Job) -> FileRecord:
    """Tokenise a public file and write its token files.

    Raises:
        DataError: If it is damaged, another one, or holds a document without text.
    """
    sha256 = _sha256(job.path)
    known = parquet.KNOWN_SHA256.get(job.path.name, sha256)
    if sha256 != known:
        raise DataError(f"another file: sha256 {sha256}, expected {known}", where=str(job.path), hint="fetch it again")
    vocabulary = opened(job.destination, job.params)
    blocks = map(vocabulary.encode, parquet.texts(job.path))
    num_tokens = write_documents(job.destination, job.number, blocks, job.splits)
    names = [name for split in SPLITS for name in file_names(split, job.number)]
    return FileRecord(
        name=job.path.name,
        size_bytes=job.path.stat().st_size,
        sha256=sha256,
        first_document=job.first_document,
        num_documents=len(job.splits),
        num_tokens=num_tokens,
        settings=job.settings,
        files={name: entry_for(job.destination / name) for name in names},
    )


def _result(done: Future[FileRecord], destination: Path) -> FileRecord:
    try:
        return done.result()
    except BrokenProcessPool:
        raise DataError(
            "a worker process was killed", where=str(destination), hint="is memory short? the same command continues"
        ) from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with opened_file(path) as file, reading(path):
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
