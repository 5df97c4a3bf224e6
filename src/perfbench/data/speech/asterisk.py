"""Recorded prompts of a telephone exchange, from Debian's ``asterisk-core-sounds-en``: a check of the loader.

One professional speaker, 16 kHz, G.722; each prompt has its text. Left out are sounds that are no speech, and texts
whose wording is not certain (remarks, signs, numbers of several digits). Prompts are dealt to the subsets by the digest
of their text, so that a text is in one subset only; as there is one speaker, "clean" and "other" mean nothing here.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from perfbench.data.packages import PackagedFiles, not_installed
from perfbench.data.preparation import Progress
from perfbench.data.speech.corpus import write_subset
from perfbench.data.speech.params import SAMPLE_RATE_HZ
from perfbench.errors import DataError

NAME = "asterisk"
_TEXTS = "core-sounds-en.txt.gz"
TEXTS = PackagedFiles(
    name="asterisk-core-sounds-en",
    version="1.6.1-1",
    folder="usr/share/doc/asterisk-core-sounds-en",
    sha256={_TEXTS: "436538195b7c7361bd227036686f1a4039f694648c76573bdaca956655d34450"},
)
SOUNDS = PackagedFiles(
    name="asterisk-core-sounds-en-g722",
    version="1.6.1-1",
    folder="usr/share/asterisk/sounds/en_US_f_Allison",
    sha256={"**/*.g722": "6f887ec4956793b5e0a7f2cf65dd49735e4b644217863b6167f9cb9809e3eced"},
)
_WHEEL = "av"
_REQUIRED_BYTES = 150_000_000
_SPEAKER = 1000
_SHARES = {
    "dev-clean": 1,
    "dev-other": 1,
    "test-clean": 2,
    "train-clean-100": 6,
    "train-clean-360": 5,
    "train-other-500": 5,
}
"""Of twenty parts."""
_LINE = re.compile(r"([\w./+-]+): *(\S.*)")
_UNCERTAIN = re.compile(r"[\[\]()<>*#]|\d\d|\d\.\d")
_DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_NOTE = (
    f"where dpkg leaves out /usr/share/doc, add --reinstall -o Dpkg::Options::=--path-include=/{TEXTS.folder}/{_TEXTS}"
)

Int16Array = NDArray[np.int16]


def required_bytes() -> int:
    """Return how much disk the corpus and its prepared form need at most.

    Raises:
        DataError: If a package is not installed.
    """
    packages = [package.name for package in (TEXTS, SOUNDS) if not package.is_there()]
    wheels = [_WHEEL] if importlib.util.find_spec(_WHEEL) is None else []
    if packages or wheels:
        raise not_installed(packages, dataset=NAME, instead="tones", wheels=wheels, note=_NOTE if packages else "")
    return _REQUIRED_BYTES


def write_corpus(folder: Path, progress: Progress) -> dict[str, JsonValue]:
    """Write all six subsets below ``folder``; return what the corpus was made from.

    Raises:
        DataError: If a package is not installed, or its files are not what they were.
    """
    required_bytes()
    (packed,) = TEXTS.read(dataset=NAME).values()
    texts, sounds = transcripts(packed), SOUNDS.find(dataset=NAME)
    spoken: dict[str, list[tuple[str, bytes]]] = {subset: [] for subset in _SHARES}
    for path, content in SOUNDS.read(dataset=NAME).items():
        transcript = texts.get(str(path.relative_to(sounds).with_suffix("")))
        if transcript is not None:
            spoken[subset_of(transcript)].append((transcript, content))
    for number, (subset, prompts) in enumerate(spoken.items()):
        progress("decoding prompts", number, len(spoken))
        utterances = (
            (f"{_SPEAKER}-{number + 1}-{index:04d}", transcript, decoded(content))
            for index, (transcript, content) in enumerate(prompts)
        )
        write_subset(folder / "LibriSpeech" / subset, utterances)
    progress("decoding prompts", len(spoken), len(spoken))
    return {
        "packages": [TEXTS.origin(), SOUNDS.origin()],
        _WHEEL: importlib.metadata.version(_WHEEL),
        "utterances": {subset: len(prompts) for subset, prompts in spoken.items()},
    }


def transcripts(packed: bytes) -> dict[str, str]:
    """Return the texts of the prompts that are certain, by name, in capitals with digits spelled out."""
    found: dict[str, str] = {}
    for line in gzip.decompress(packed).decode().split("\n"):
        match = _LINE.fullmatch(line.rstrip())
        if match and not _UNCERTAIN.search(match[2]):
            spelled = re.sub(r"\d", lambda digit: f" {_DIGITS[int(digit[0])]} ", match[2]).upper()
            words = (word.strip("'") for word in re.sub(r"[^A-Z' ]", " ", spelled).split())
            if text := " ".join(word for word in words if word):
                found[match[1]] = text
    return found


def subset_of(transcript: str) -> str:
    """Return where a text belongs."""
    part = int.from_bytes(hashlib.sha256(transcript.encode()).digest()[:4], "big") % sum(_SHARES.values())
    for subset, share in _SHARES.items():
        part -= share
        if part < 0:
            return subset
    raise AssertionError


def decoded(content: bytes) -> Int16Array:
    """Decode G.722, which has no header, to samples ``[n]`` at 16 kHz.

    Raises:
        DataError: If nothing comes out.
    """
    import av

    with av.open(io.BytesIO(content), "r", format="g722") as container:
        frames = list(container.decode(audio=0))
    if not frames or {frame.sample_rate for frame in frames} != {SAMPLE_RATE_HZ}:
        raise DataError("cannot be decoded as G.722", where=SOUNDS.folder, hint=f"install another version of {_WHEEL}")
    samples: Int16Array = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.int16, copy=False)
    return samples
