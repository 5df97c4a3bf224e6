"""The first half of preparing: every subset decoded into shards of samples, resuming what an interrupted call left."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from perfbench.data.preparation import FileEntry, Progress, entry_for
from perfbench.data.speech.corpus import Recording, locate, recordings, samples_of
from perfbench.data.speech.params import SUBSETS, SpeechParams
from perfbench.data.speech.storage import Int16Array, shard_name, write_shard
from perfbench.errors import DataError
from perfbench.results.files import append_line, atomic_file, read_lines
from perfbench.spec.base import Spec

PROGRESS_NAME = "shards.jsonl"
SHARD_SAMPLES = 1 << 28
"""Half a gigabyte."""
_CHUNK = 64
"""Utterances decoded at a time, by all cores together."""

Decoded = tuple["Utterance", Int16Array]


class Utterance(Spec):
    """One utterance of the corpus, kept or left out."""

    identity: str
    transcript: str
    num_samples: int
    """0 for one with too many characters, which is not decoded."""
    is_kept: bool


class ShardRecord(Spec):
    """A finished shard with its utterances in the order of their samples; one line while preparing."""

    name: str
    subset: str
    utterances: list[Utterance]
    entry: FileEntry


def decode_subsets(
    source: Path, destination: Path, params: SpeechParams, progress: Progress, *, shard_samples: int = SHARD_SAMPLES
) -> list[ShardRecord]:
    """Decode every subset of a corpus; return all shards.

    Raises:
        DataError: If a subset is missing or has another number of utterances than published, or a file is damaged.
    """
    finished = _finished(destination, params)
    num_done, num_all = sum(len(record.utterances) for record in finished), sum(params.archive_utterances.values())
    for subset in itertools.chain.from_iterable(SUBSETS.values()):
        own = [record for record in finished if record.subset == subset]
        known = {utterance.identity for record in own for utterance in record.utterances}
        expected = params.archive_utterances[subset]
        if len(known) == expected:
            continue
        path = locate(source, subset)
        remaining = (recording for recording in recordings(path) if recording.identity not in known)
        num_new = 0
        for number, group in enumerate(_grouped(_decoded(remaining, params), shard_samples), start=len(own)):
            record = _write_group(destination, subset, number, group)
            append_line(destination / PROGRESS_NAME, record.to_json(indent=None))
            finished.append(record)
            num_new += len(group)
            progress("decoding", num_done + num_new, num_all)
        num_done += num_new
        _check_count(path, len(known) + num_new, expected)
    return finished


def _finished(destination: Path, params: SpeechParams) -> list[ShardRecord]:
    """Return the shards that an interrupted call finished, up to the first that is not whole or had other limits."""
    found: list[ShardRecord] = []
    for line in read_lines(destination / PROGRESS_NAME):
        record = ShardRecord.from_json(line, error=DataError)
        is_whole = record.entry.is_whole(destination / record.name)
        if not is_whole or any(_is_kept(u, params) is not u.is_kept for u in record.utterances):
            break
        found.append(record)
    with atomic_file(destination / PROGRESS_NAME) as file:
        file.write("".join(f"{record.to_json(indent=None)}\n" for record in found).encode())
    return found


def _is_kept(utterance: Utterance, params: SpeechParams) -> bool:
    """Tell whether an utterance that was decoded is within the limits; one that was not has no samples."""
    fits = len(utterance.transcript) <= params.max_characters
    return fits and 0 < utterance.num_samples <= params.max_samples


def _write_group(destination: Path, subset: str, number: int, group: list[Decoded]) -> ShardRecord:
    name = shard_name(subset, number)
    write_shard(destination / name, [samples for _, samples in group])
    utterances = [utterance for utterance, _ in group]
    return ShardRecord(name=name, subset=subset, utterances=utterances, entry=entry_for(destination / name))


def _decoded(found: Iterator[Recording], params: SpeechParams) -> Iterator[Decoded]:
    """Decode with all cores, in order."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        while chunk := list(itertools.islice(found, _CHUNK)):
            yield from pool.map(lambda recording: _filtered(recording, params), chunk)


def _filtered(recording: Recording, params: SpeechParams) -> Decoded:
    """Decode one utterance; of one that is left out no samples are returned."""
    nothing = np.empty(0, dtype=np.int16)
    fits = len(recording.transcript) <= params.max_characters
    samples = samples_of(recording) if fits else nothing
    is_kept = fits and len(samples) <= params.max_samples
    utterance = Utterance(
        identity=recording.identity, transcript=recording.transcript, num_samples=len(samples), is_kept=is_kept
    )
    return utterance, samples if is_kept else nothing


def _grouped(decoded: Iterable[Decoded], shard_samples: int) -> Iterator[list[Decoded]]:
    """Cut into groups of about ``shard_samples`` samples."""
    group: list[Decoded] = []
    size = 0
    for item in decoded:
        group.append(item)
        size += len(item[1])
        if size >= shard_samples:
            yield group
            group, size = [], 0
    if group:
        yield group


def _check_count(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(
            f"{found} utterances instead of {expected}", where=str(path), hint="fetch the complete archive again"
        )
