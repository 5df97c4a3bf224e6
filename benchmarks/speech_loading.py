"""Reading audio: the stored 16-bit samples, mapped into memory, against FLAC decoded when an example is needed.

Random examples of a generated corpus in the public layout, files in the page cache for both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console

from benchmarks.interleaved import rate_table, timed
from perfbench.data.speech import corpus, storage, tones
from perfbench.data.speech.params import SAMPLE_RATE_HZ

NUM_UTTERANCES = 600
JOINED = 10
"""Utterances of the tone language that are joined to one nearer to LibriSpeech's length, some 10 s."""


def report(console: Console, rounds: int) -> None:
    """Print hours of audio per second of one core, for each stored form."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tones.write_corpus(root, lambda *_: None, num_utterances={corpus_name(): NUM_UTTERANCES})
        spoken = [corpus.samples_of(recording) for recording in corpus.recordings(root / "LibriSpeech" / corpus_name())]
        joined = [np.concatenate(spoken[first : first + JOINED]) for first in range(0, len(spoken), JOINED)]
        num_samples = sum(map(len, joined))
        reader, files = stored(root, joined)
        order = np.random.default_rng(0).permutation(len(joined)).tolist()
        row = np.zeros(max(map(len, joined)), dtype=np.int16)
        seconds = timed(
            {"16-bit samples, mapped": mapped(reader, order, row), "FLAC, decoded": flac(files, order, row)},
            rounds=rounds,
        )
        stored_bytes = {"samples": 2 * num_samples, "flac": sum(path.stat().st_size for path in files)}
    hours = num_samples / SAMPLE_RATE_HZ / 3600
    console.print(
        rate_table("speech", seconds, amount=hours, unit="hours of audio per core second", base="FLAC, decoded")
    )
    console.print(f"{stored_bytes['samples'] / stored_bytes['flac']:.2f} bytes of samples for each byte of FLAC")


def corpus_name() -> str:
    """Return the subset that is generated."""
    return next(iter(tones.NUM_UTTERANCES))


def stored(root: Path, waveforms: list[storage.Int16Array]) -> tuple[storage.SplitReader, list[Path]]:
    """Store waveforms in the prepared form, and each as a FLAC file."""
    storage.write_shard(root / "all.i16", waveforms)
    examples = np.zeros(len(waveforms), dtype=storage.EXAMPLE)
    examples["num_samples"] = [len(waveform) for waveform in waveforms]
    examples["first_sample"] = np.cumsum(examples["num_samples"]) - examples["num_samples"]
    storage.write_split(root, "all", examples, np.zeros(1, dtype=np.int32))
    files = [root / f"{number}.flac" for number in range(len(waveforms))]
    for path, waveform in zip(files, waveforms, strict=True):
        soundfile.write(path, waveform, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return storage.SplitReader(root, "all", ["all.i16"]), files


def mapped(reader: storage.SplitReader, order: list[int], row: storage.Int16Array) -> Callable[[], None]:
    """Return what copies every example from the mapped samples."""

    def block() -> None:
        for example in order:
            reader.read_audio(example, row)

    return block


def flac(files: list[Path], order: list[int], row: storage.Int16Array) -> Callable[[], None]:
    """Return what decodes every example."""

    def block() -> None:
        for example in order:
            samples, _ = soundfile.read(files[example], dtype="int16")
            row[: len(samples)] = samples

    return block
