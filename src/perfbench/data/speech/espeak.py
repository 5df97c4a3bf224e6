"""Digit strings spoken by Debian's ``espeak-ng`` and ``flite``: real words, synthetic voices, the same every time.

38 speakers: 15 voices of espeak-ng in two tempos and pitches, four of flite in two tempos. Strings are drawn without
repetition over all subsets; speakers are shared between the splits, but the subsets called "other" have voices of their
own (accents from farther away, a croaking voice, flite's robotic ones). Written in the public layout.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import JsonValue

from perfbench.data.packages import INSTALL, not_installed
from perfbench.data.preparation import Progress
from perfbench.data.speech.corpus import write_subset
from perfbench.data.speech.params import SAMPLE_RATE_HZ
from perfbench.errors import DataError

NAME = "espeak"
NUM_UTTERANCES = {
    "train-clean-100": 400,
    "train-clean-360": 400,
    "train-other-500": 400,
    "dev-clean": 100,
    "dev-other": 100,
    "test-clean": 100,
}
_REQUIRED_BYTES = 300_000_000
_SEED = 0
_ESPEAK, _FLITE = "espeak-ng", "flite"
"""Programs, and the packages that have them."""
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FEWEST_DIGITS, _MOST_DIGITS = 3, 5
_VERSION = re.compile(r"\d+\.\d+\S*")

Int16Array = NDArray[np.int16]


class Voice(NamedTuple):
    """One speaker: a program's voice with its tempo."""

    program: str
    arguments: tuple[str, ...]


def _voices(espeak: tuple[str, ...], flite: tuple[str, ...]) -> list[Voice]:
    settings = (("-p", "40", "-s", "190"), ("-p", "65", "-s", "240"))  # pitch (0 to 99), words a minute
    spoken = [Voice(_ESPEAK, ("-v", name, *setting)) for name in espeak for setting in settings]
    stretches = ("0.7", "0.9")
    return spoken + [
        Voice(_FLITE, ("-voice", name, "--setf", f"duration_stretch={stretch}"))
        for name in flite
        for stretch in stretches
    ]


_CLEAN = _voices(
    (
        *("en-gb", "en-gb+f2", "en-gb+m3", "en-gb-x-rp", "en-gb-x-rp+f4"),
        *("en-us", "en-us+f1", "en-us+m5", "en-us+f3"),
    ),
    ("rms", "slt"),
)
_OTHER = _voices(
    ("en-gb-scotland", "en-gb-scotland+f5", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us+croak"),
    ("kal16", "awb"),
)


def required_bytes() -> int:
    """Return how much disk the corpus and its prepared form need at most.

    Raises:
        DataError: If a program is not installed.
    """
    missing = [name for name in (_ESPEAK, _FLITE) if shutil.which(name) is None]
    if missing:
        raise not_installed(missing, dataset=NAME, instead="tones")
    return _REQUIRED_BYTES


def write_corpus(
    folder: Path, progress: Progress, *, num_utterances: dict[str, int] | None = None, seed: int = _SEED
) -> dict[str, JsonValue]:
    """Write all six subsets below ``folder``; return what the corpus was made from.

    Raises:
        DataError: If a program is not installed, or fails.
    """
    required_bytes()
    counts = num_utterances or NUM_UTTERANCES
    strings = _digit_strings(np.random.default_rng(seed), sum(counts.values()))
    digest = hashlib.sha256()
    for number, (subset, count) in enumerate(counts.items()):
        progress("speaking", number, len(counts))
        texts = [next(strings) for _ in range(count)]
        voices = _OTHER if "other" in subset else _CLEAN
        utterances = _utterances(texts, voices, subset_number=number)
        write_subset(folder / "LibriSpeech" / subset, _hashed(utterances, digest))
    progress("speaking", len(counts), len(counts))
    return {
        "packages": {program: _version(program) for program in (_ESPEAK, _FLITE)},
        "sha256_of_samples": digest.hexdigest(),
        "seed": seed,
        "utterances": dict(counts),
    }


def _digit_strings(generator: np.random.Generator, count: int) -> Iterator[str]:
    """Yield different strings of words."""
    seen: set[str] = set()
    while len(seen) < count:
        length = int(generator.integers(_FEWEST_DIGITS, _MOST_DIGITS + 1))
        text = " ".join(_DIGITS[digit] for digit in generator.integers(len(_DIGITS), size=length))
        if text not in seen:
            seen.add(text)
            yield text


def _utterances(texts: list[str], voices: list[Voice], *, subset_number: int) -> Iterator[tuple[str, str, Int16Array]]:
    """Yield ``(id, transcript, samples)``; speakers take turns, and have one chapter in a subset."""
    all_voices = [*_CLEAN, *_OTHER]
    with ThreadPoolExecutor(os.cpu_count()) as pool, tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / f"{index}.wav" for index in range(len(texts))]
        spoken = pool.map(_spoken, cycle(voices), texts, paths)
        for index, (text, samples) in enumerate(zip(texts, spoken, strict=True)):
            speaker = 1000 + all_voices.index(voices[index % len(voices)])
            identity = f"{speaker}-{subset_number + 1}{speaker}-{index // len(voices):04d}"
            yield identity, text.upper(), samples


def _hashed(
    utterances: Iterator[tuple[str, str, Int16Array]], digest: hashlib._Hash
) -> Iterator[tuple[str, str, Int16Array]]:
    for identity, transcript, samples in utterances:
        digest.update(samples.astype("<i2").tobytes())
        yield identity, transcript, samples


def _spoken(voice: Voice, text: str, path: Path) -> Int16Array:
    """Return a text spoken by a voice, at the rate of the corpus; the file is a scratch file.

    Raises:
        DataError: If the program fails or writes no speech.
    """
    sentence = ("-w", str(path), text) if voice.program == _ESPEAK else ("-t", text, "-o", str(path))
    ended = subprocess.run([voice.program, *voice.arguments, *sentence], check=False, capture_output=True, text=True)
    if ended.returncode == 0 and path.exists():
        samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
        path.unlink()
        if samples.any():
            return at_corpus_rate(samples[:, 0], rate_hz)
    said = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}, no speech"]
    raise DataError(
        f"cannot speak {text!r}: {said[0]}",
        where=" ".join((voice.program, *voice.arguments)),
        hint=f"{INSTALL} --reinstall {voice.program}",
    )


def at_corpus_rate(samples: Int16Array, rate_hz: int) -> Int16Array:
    """Return samples ``[n]`` at 16 kHz, by polyphase filtering: of 22,050 Hz, 320 of 441."""
    if rate_hz == SAMPLE_RATE_HZ:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(SAMPLE_RATE_HZ, rate_hz)
    resampled = resample_poly(samples.astype(np.float64), SAMPLE_RATE_HZ // common, rate_hz // common)
    limits = np.iinfo(np.int16)
    rounded: Int16Array = np.clip(np.round(resampled), limits.min, limits.max).astype(np.int16)
    return rounded


def _version(program: str) -> str:
    """Return what a program says of its version."""
    ended = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    found = _VERSION.search(ended.stdout + ended.stderr)
    return found[0] if found else "unknown"
