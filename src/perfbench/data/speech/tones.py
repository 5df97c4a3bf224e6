"""A small language spoken in pairs of tones: deterministic, made in seconds, and a real problem in time and frequency.

Every letter is the sum of two sines, one of six low and one of five high frequencies; a lexicon of pseudo-words with
Zipf-like frequencies makes sentences of one to three words; speakers differ in pitch, rate and noise, and no speaker
of the training subsets is in another split. Written in the public layout, so that the conversion is the same as at full
scale. Everything follows from one seed, each subset from its own generator.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from perfbench.data.preparation import Progress
from perfbench.data.speech.corpus import write_subset
from perfbench.data.speech.params import SAMPLE_RATE_HZ

NAME = "tones"
_REQUIRED_BYTES = 200_000_000
NUM_UTTERANCES = {
    "train-clean-100": 400,
    "train-clean-360": 500,
    "train-other-500": 700,
    "dev-clean": 200,
    "dev-other": 200,
    "test-clean": 200,
}
_SEED = 0
_LETTERS = string.ascii_uppercase + "'"
_CONSONANTS, _VOWELS = "BCDFGHJKLMNPQRSTVWXYZ", "AEIOU"
_NUM_WORDS = 24
_NUM_POSSESSIVES = 2
_ZIPF = 0.7
_MAX_WORDS = 3
_LONG_EVERY, _LONG_WORDS = 150, 16
"""Now and then a sentence is too long for the workload: the filter has something to leave out."""
_PER_SPEAKER = 20
_NUM_LOW = 6
_LADDER_HZ, _STEP = 350.0, 1.28
_RAMP_S = 0.005
_CLEAN_SNR_DB, _OTHER_SNR_DB = (8.0, 22.0), (-3.0, 8.0)

FloatArray = NDArray[np.float64]


def required_bytes() -> int:
    """Return how much disk the corpus and its prepared form need at most."""
    return _REQUIRED_BYTES


def write_corpus(
    folder: Path, progress: Progress, *, num_utterances: dict[str, int] | None = None, seed: int = _SEED
) -> dict[str, JsonValue]:
    """Write all six subsets below ``folder``; return what the corpus was made from."""
    counts = num_utterances or NUM_UTTERANCES
    words = lexicon(np.random.default_rng([seed, len(NUM_UTTERANCES)]))
    for number, (subset, count) in enumerate(counts.items()):
        progress("speaking", number, len(counts))
        generator = np.random.default_rng([seed, number])
        write_subset(folder / "LibriSpeech" / subset, _utterances(generator, words, subset, number, count))
    progress("speaking", len(counts), len(counts))
    return {"generator": NAME, "seed": seed, "utterances": dict(counts)}


def lexicon(generator: np.random.Generator) -> list[str]:
    """Return the words, the most frequent first; two are possessives, so that apostrophes occur."""
    words: list[str] = []
    while len(words) < _NUM_WORDS:
        length = int(generator.integers(2, 6))
        starts_with_vowel = bool(generator.integers(2))
        kinds = [_VOWELS if (index % 2 == 0) == starts_with_vowel else _CONSONANTS for index in range(length)]
        word = "".join(kind[int(generator.integers(len(kind)))] for kind in kinds)
        if word not in words:
            words.append(word)
    for index in generator.choice(_NUM_WORDS, size=_NUM_POSSESSIVES, replace=False):
        words[index] += "'S"
    return words


def _utterances(
    generator: np.random.Generator, words: list[str], subset: str, subset_number: int, count: int
) -> Iterator[tuple[str, str, NDArray[np.int16]]]:
    rates = (np.arange(len(words)) + 1.0) ** -_ZIPF
    snr_db = _OTHER_SNR_DB if "other" in subset else _CLEAN_SNR_DB
    for index in range(count):
        if index % _PER_SPEAKER == 0:
            pitch = 2 ** generator.uniform(-0.1, 0.1)
            rate = generator.uniform(0.85, 1.2)
        speaker = 100 * (subset_number + 1) + index // _PER_SPEAKER
        identity = f"{speaker}-{1000 + speaker}-{index % _PER_SPEAKER:04d}"
        num_words = generator.integers(1, _MAX_WORDS + 1) if (index + 1) % _LONG_EVERY else _LONG_WORDS
        chosen = generator.choice(words, size=num_words, p=rates / rates.sum())
        sentence = [str(word) for word in chosen]
        clean = _spoken(generator, sentence, pitch=pitch, rate=rate)
        yield identity, " ".join(sentence), _recorded(generator, clean, snr_db)


def _spoken(generator: np.random.Generator, sentence: list[str], *, pitch: float, rate: float) -> FloatArray:
    """Return the noiseless waveform of a sentence."""
    parts = [_silence(generator, 0.04, 0.12)]
    for number, word in enumerate(sentence):
        if number:
            parts.append(_silence(generator, 0.03, 0.06))
        parts += [_letter(generator, letter, pitch=pitch, rate=rate) for letter in word]
    parts.append(_silence(generator, 0.04, 0.12))
    return np.concatenate(parts)


def _silence(generator: np.random.Generator, least_s: float, most_s: float) -> FloatArray:
    return np.zeros(int(generator.uniform(least_s, most_s) * SAMPLE_RATE_HZ))


def _letter(generator: np.random.Generator, letter: str, *, pitch: float, rate: float) -> FloatArray:
    index = _LETTERS.index(letter)
    low = _LADDER_HZ * _STEP ** (index % _NUM_LOW)
    high = _LADDER_HZ * _STEP ** (_NUM_LOW + 0.5 + index // _NUM_LOW)
    jitter = 1 + 0.01 * generator.standard_normal(2)
    seconds = generator.uniform(0.045, 0.060) * rate
    time_s = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    phase = generator.uniform(0, 2 * np.pi, size=2)
    tones = sum(
        np.sin(2 * np.pi * frequency * pitch * factor * time_s + start)
        for frequency, factor, start in zip((low, high), jitter, phase, strict=True)
    )
    ramp = np.minimum(1.0, np.minimum(time_s, time_s[::-1]) / _RAMP_S)
    spoken: FloatArray = generator.uniform(0.7, 1.0) * tones * ramp
    return spoken


def _recorded(generator: np.random.Generator, clean: FloatArray, snr_db: tuple[float, float]) -> NDArray[np.int16]:
    """Add noise, scale the peak, round to 16 bits."""
    power = float(np.mean(clean**2)) / 10 ** (generator.uniform(*snr_db) / 10)
    noisy = clean + np.sqrt(power) * generator.standard_normal(len(clean))
    peak = generator.uniform(0.2, 0.8) * np.iinfo(np.int16).max
    samples: NDArray[np.int16] = np.round(noisy * (peak / np.abs(noisy).max())).astype(np.int16)
    return samples
