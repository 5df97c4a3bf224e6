"""From a corpus in the public layout to prepared data: streaming, resumable, checked; the manifest is written last.

1. Every subset is decoded into shards of samples (``decoding``).
2. The tokenizer is trained on the transcripts of one subset, sorted by utterance.
3. Transcripts become labels; index, labels and manifest are written.

Left out, in every split, are utterances with more characters or samples than the workload's limits.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece
from pydantic import JsonValue, TypeAdapter

from perfbench.data.preparation import Manifest, PrepareRequest, entry_for, require_counts
from perfbench.data.source_files import files_below, size_of
from perfbench.data.speech import tokenizer
from perfbench.data.speech.corpus import locate
from perfbench.data.speech.decoding import PROGRESS_NAME, SHARD_SAMPLES, ShardRecord, Utterance, decode_subsets
from perfbench.data.speech.params import SAMPLE_RATE_HZ, SUBSETS, TOKENIZER_SUBSET, SpeechParams
from perfbench.data.speech.storage import EXAMPLE, FORMAT_VERSION, most_labels, write_split
from perfbench.data.speech.tokenizer import Tokenizer
from perfbench.errors import DataError
from perfbench.results.files import atomic_file

_UNPACKED_PER_PACKED = 2.3
"""Bytes of 16-bit samples per byte of FLAC, at most: 1.7 to 1.8 on the public corpus."""
_SETTINGS = ("max_samples", "max_characters", "vocabulary_size", "vocabulary_is_exact", "num_pieces")
"""Parameters that decide what the prepared files hold."""

Placed = tuple[Utterance, int, int]
"""An utterance, the number of its shard and its first sample there."""


def required_bytes(source: Path) -> int:
    """Return how much disk the prepared form of a corpus needs at most.

    Raises:
        DataError: If a subset is missing.
    """
    paths = [locate(source, subset) for subsets in SUBSETS.values() for subset in subsets]
    packed = sum(size_of(file) for path in paths for file in (files_below(path) if path.is_dir() else [path]))
    return int(packed * _UNPACKED_PER_PACKED)


def convert(request: PrepareRequest, source: Path, params: SpeechParams, *, origin: dict[str, JsonValue]) -> Manifest:
    """Convert a corpus into ``request.destination``.

    Raises:
        DataError: If a subset is missing or incomplete, or a file is damaged: names it.
    """
    destination = request.destination
    destination.mkdir(parents=True, exist_ok=True)
    shard_samples = int(str(request.options.get("shard_samples", SHARD_SAMPLES)))
    shards = decode_subsets(source, destination, params, request.progress, shard_samples=shard_samples)
    request.progress("training the tokenizer", 0, 1)
    model = _trained_tokenizer(shards, params)
    with atomic_file(destination / tokenizer.FILE_NAME) as file:
        file.write(model)
    coder = Tokenizer(model)
    names = [tokenizer.FILE_NAME]
    counts: dict[str, int] = {}
    words: dict[str, JsonValue] = {}
    for split, subsets in SUBSETS.items():
        placed = [item for subset in subsets for item in _kept(shards, subset)]
        names += _write_labelled(destination, split, placed, coder, params)
        counts[split] = len(placed)
        words[split] = sum(len(utterance.transcript.split(" ")) for utterance, _, _ in placed)
    entries = {record.name: record.entry for record in shards}
    manifest = Manifest(
        family=request.workload.data_family or request.workload.family,
        dataset=request.workload.dataset,
        format_version=FORMAT_VERSION,
        origin={**origin, "sentencepiece": sentencepiece.__version__},
        counts=counts,
        facts={
            **_settings_of(params),
            "shards": [record.name for record in shards],
            "tokenizer_sha256": tokenizer_digest(model),
            "words": words,
            "left_out": _left_out(shards),
            "hours": _hours(shards),
        },
        files=entries | {name: entry_for(destination / name) for name in names},
    )
    manifest.write(destination)
    (destination / PROGRESS_NAME).unlink()
    return manifest


def verify(params: SpeechParams, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what the workload needs; reads the manifest, file sizes, tokenizer and indices.

    Raises:
        DataError: If files are missing or truncated, the tokenizer is another one, or counts are not the workload's.
    """
    manifest = Manifest.read_checked(folder, format_version=FORMAT_VERSION, prepare_command=prepare_command)
    where, redo = str(folder / "manifest.json"), f"delete the folder and run `{prepare_command}`"
    found, expected = tokenizer_digest((folder / tokenizer.FILE_NAME).read_bytes()), _fact(manifest, "tokenizer_sha256")
    if found != expected:
        what = f"another tokenizer ({found[:12]}) than the labels were made with ({expected[:12]})"
        raise DataError(what, where=str(folder / tokenizer.FILE_NAME), hint=redo)
    for name, value in _settings_of(params).items():
        if manifest.facts.get(name) != value:
            what = f"prepared with {name} {manifest.facts.get(name)}, the workload has {value}"
            raise DataError(what, where=where, hint=redo)
    hint = f"{redo} on the complete corpus"
    require_counts(manifest.counts, params.expected_examples.items(), unit="examples", where=where, hint=hint)
    for split in manifest.counts:
        if (longest := most_labels(folder, split)) > params.max_labels:
            raise DataError(
                f"a transcript of {split} has {longest} labels, the workload has {params.max_labels} slots",
                where="workload.params.max_labels",
                hint="raise it",
            )
    return manifest


def tokenizer_digest(model: bytes) -> str:
    """Return what names a tokenizer file in the manifest."""
    return hashlib.sha256(model).hexdigest()


def shards_of(manifest: Manifest) -> list[str]:
    """Return the shards in the order that examples refer to."""
    return TypeAdapter(list[str]).validate_python(manifest.facts["shards"])


def words_of(manifest: Manifest) -> dict[str, int]:
    """Return the number of words of each split's transcripts."""
    return TypeAdapter(dict[str, int]).validate_python(manifest.facts["words"])


def _fact(manifest: Manifest, name: str) -> str:
    return str(manifest.facts.get(name))


def _settings_of(params: SpeechParams) -> dict[str, JsonValue]:
    return {name: getattr(params, name) for name in _SETTINGS}


def _trained_tokenizer(shards: Sequence[ShardRecord], params: SpeechParams) -> bytes:
    """Train on all transcripts of one subset, left out or not, sorted by utterance.

    Raises:
        DataError: If the tokenizer has another number of pieces than the workload's output layer.
    """
    utterances = [u for record in shards if record.subset == TOKENIZER_SUBSET for u in record.utterances]
    ordered = sorted(utterances, key=lambda utterance: _sort_key(utterance.identity))
    transcripts = (utterance.transcript for utterance in ordered)
    model = tokenizer.train(transcripts, vocabulary_size=params.vocabulary_size, is_exact=params.vocabulary_is_exact)
    found = Tokenizer(model).num_pieces
    if found != params.num_pieces:
        raise DataError(
            f"the trained tokenizer has {found} pieces, the workload needs {params.num_pieces}",
            where=f"sentencepiece {sentencepiece.__version__}",
            hint="install the version in constraints.txt, and use the complete corpus",
        )
    return model


def _sort_key(identity: str) -> tuple[int, ...]:
    return tuple(int(part) for part in identity.split("-"))


def _kept(shards: Sequence[ShardRecord], subset: str) -> list[Placed]:
    """Return the kept utterances of a subset with their places, sorted by utterance."""
    found: list[Placed] = []
    for number, record in enumerate(shards):
        first_sample = 0
        for utterance in record.utterances if record.subset == subset else ():
            if utterance.is_kept:
                found.append((utterance, number, first_sample))
                first_sample += utterance.num_samples
    return sorted(found, key=lambda item: _sort_key(item[0].identity))


def _write_labelled(
    folder: Path, split: str, placed: Sequence[Placed], coder: Tokenizer, params: SpeechParams
) -> list[str]:
    """Write index and labels of a split; return the files' names."""
    examples = np.empty(len(placed), dtype=EXAMPLE)
    labels: list[int] = []
    for row, (utterance, shard, first_sample) in enumerate(placed):
        ids = coder.encode(utterance.transcript)
        if len(ids) > params.max_labels:
            raise DataError(
                f"{len(ids)} labels, the workload has {params.max_labels} slots",
                where=utterance.identity,
                hint="raise workload.params.max_labels, or lower max_characters",
            )
        num_frames = params.encoder_frames_of(utterance.num_samples)
        if len(ids) + sum(one == other for one, other in itertools.pairwise(ids)) > num_frames:
            raise DataError(
                f"{len(ids)} labels cannot be said in {num_frames} frames: the loss would be infinite",
                where=utterance.identity,
                hint="the audio is cut short, or the transcript is another's: fetch the corpus again",
            )
        examples[row] = (shard, first_sample, utterance.num_samples, len(labels), len(ids))
        labels += ids
    return write_split(folder, split, examples, np.asarray(labels, dtype="<i4"))


def _left_out(shards: Sequence[ShardRecord]) -> dict[str, JsonValue]:
    counts: dict[str, JsonValue] = {}
    for subset in (subset for subsets in SUBSETS.values() for subset in subsets):
        counts[subset] = sum(not u.is_kept for record in shards if record.subset == subset for u in record.utterances)
    return counts


def _hours(shards: Sequence[ShardRecord]) -> float:
    num_samples = sum(u.num_samples for record in shards for u in record.utterances if u.is_kept)
    return round(num_samples / SAMPLE_RATE_HZ / 3600, 3)
