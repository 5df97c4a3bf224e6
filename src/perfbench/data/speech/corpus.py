"""Reading a corpus in the public layout: ``<subset>/<speaker>/<chapter>/<id>.flac`` and ``<chapter>.trans.txt``.

A subset is a folder or the archive ``<subset>.tar.gz`` as distributed; an archive is read once, from front to back.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from perfbench.data.source_files import content_of, files_below, files_in_tar, is_clutter, is_there, reading
from perfbench.data.speech.params import SAMPLE_RATE_HZ
from perfbench.errors import DataError

_TRANSCRIPT_FILE = re.compile(r"(\d+)-(\d+)\.trans\.txt")
_AUDIO_FILE = re.compile(r"(\d+)-(\d+)-(\d{4,})\.flac")
_TRANSCRIPT = re.compile(r"[A-Z']+(?: [A-Z']+)*")
_SIGNATURE, _CHECKSUM = b"fLaC", slice(26, 42)
"""Of a FLAC file: how it starts, and where its first block has the MD5 of the samples."""
_FETCH = "fetch the archive again"
_ROOTS = ("", "LibriSpeech")
"""Where subsets are below the source folder: the archives unpack into a folder of this name."""


class Recording(NamedTuple):
    """One utterance as it is stored in the corpus."""

    identity: str
    transcript: str
    flac: bytes
    where: str
    """File, for messages."""


@dataclass
class _Chapter:
    """What was read of a chapter so far: in an archive, audio and transcripts come in any order."""

    transcripts: dict[str, str] | None = None
    waiting: dict[str, tuple[bytes, str]] = field(default_factory=dict)


def locate(source: Path, subset: str) -> Path:
    """Return the folder or archive of a subset.

    Raises:
        DataError: If there is none.
    """
    for root in _ROOTS:
        for path in (source / root / subset, source / root / f"{subset}.tar.gz"):
            if is_there(path):
                return path
    raise DataError(
        f"neither a folder {subset} nor an archive {subset}.tar.gz",
        where=str(source),
        hint="give --source the folder of the archives from openslr.org/12, or of the unpacked LibriSpeech/",
    )


def recordings(path: Path) -> Iterator[Recording]:
    """Yield every utterance of a subset; the same order in every call.

    Raises:
        DataError: If an archive is truncated, a transcript malformed, or audio and transcripts do not match.
    """
    chapters: dict[str, _Chapter] = {}
    num_files = 0
    for name, content, where in _files(path):
        if match := _TRANSCRIPT_FILE.fullmatch(name):
            key = f"{match[1]}-{match[2]}"
            chapter = chapters.setdefault(key, _Chapter())
            chapter.transcripts = _parsed(content, key, where)
            waiting, chapter.waiting = chapter.waiting, {}
            for identity, (flac, flac_where) in waiting.items():
                yield _paired(chapter.transcripts, identity, flac, flac_where)
        elif match := _AUDIO_FILE.fullmatch(name):
            chapter = chapters.setdefault(f"{match[1]}-{match[2]}", _Chapter())
            identity = name.removesuffix(".flac")
            if chapter.transcripts is None:
                chapter.waiting[identity] = (content, where)
            else:
                yield _paired(chapter.transcripts, identity, content, where)
        num_files += 1
    _check_complete(path, chapters, num_files)


def samples_of(recording: Recording) -> NDArray[np.int16]:
    """Decode an utterance to the integers that were encoded.

    Raises:
        DataError: If the file is damaged, or is not 16 kHz, mono, 16 bit.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(recording.flac)) as file:
            found = (file.samplerate, file.channels, file.subtype)
            samples: NDArray[np.int16] = file.read(dtype="int16")
            is_whole = len(samples) == file.frames and _is_as_encoded(recording.flac, samples)
    except soundfile.SoundFileError as problem:
        raise DataError(
            f"cannot be decoded: {problem}", where=recording.where, hint="the file is damaged: fetch it again"
        ) from None
    if found != (SAMPLE_RATE_HZ, 1, "PCM_16"):
        raise DataError(
            f"{found[0]} Hz, {found[1]} channels, {found[2]}; needed are {SAMPLE_RATE_HZ} Hz, 1 channel, PCM_16",
            where=recording.where,
            hint="convert the file; perfbench does not resample",
        )
    if not is_whole:
        raise DataError(
            "the file ends early, or holds other samples than its checksum says",
            where=recording.where,
            hint="the file is damaged: fetch it again",
        )
    return samples


def _is_as_encoded(flac: bytes, samples: NDArray[np.int16]) -> bool:
    """Compare the samples with the MD5 in the file's first block, which decoders do not; encoders may leave it zero."""
    expected = flac[_CHECKSUM] if flac.startswith(_SIGNATURE) else b""
    return not any(expected) or hashlib.md5(samples.astype("<i2").data, usedforsecurity=False).digest() == expected


def _files(path: Path) -> Iterator[tuple[str, bytes, str]]:
    """Yield name, content and place of every file of a subset."""
    if path.is_dir():
        # Of a chapter, the transcript first: then no audio waits for it.
        for file in sorted(files_below(path), key=lambda p: (p.parent, p.suffix != ".txt", p.name)):
            yield file.name, content_of(file), str(file)
        return
    for member, content in files_in_tar(path, hint=_FETCH):
        name = Path(member.name)
        if name.parent.parent.parent.name == _subset(path) and not is_clutter(name.name):
            with reading(path, hint=_FETCH):
                found = content.read()
            yield name.name, found, f"{path}:{member.name}"


def _subset(path: Path) -> str:
    return path.name.removesuffix(".tar.gz")


def _parsed(content: bytes, chapter: str, where: str) -> dict[str, str]:
    transcripts: dict[str, str] = {}
    for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
        identity, _, transcript = line.partition(" ")
        if not identity.startswith(f"{chapter}-") or not identity.rpartition("-")[2].isdigit():
            _refuse(f"{identity[:40]!r} is no utterance of chapter {chapter}", where, number)
        if identity in transcripts:
            _refuse(f"{identity} has a second transcript", where, number)
        if not transcript.strip():
            _refuse(f"{identity} has an empty transcript", where, number)
        if not _TRANSCRIPT.fullmatch(transcript):
            _refuse(f"{identity}: {transcript[:60]!r} is not A-Z, apostrophe and single spaces", where, number)
        transcripts[identity] = transcript
    return transcripts


def _refuse(what: str, where: str, line: int) -> None:
    raise DataError(what, where=f"{where}, line {line}", hint="fetch the corpus again")


def _paired(transcripts: dict[str, str], identity: str, flac: bytes, where: str) -> Recording:
    transcript = transcripts.pop(identity, None)
    if transcript is None:
        raise DataError("audio without a transcript, or twice", where=where, hint="fetch the corpus again")
    return Recording(identity, transcript, flac, where)


def _check_complete(path: Path, chapters: dict[str, _Chapter], num_files: int) -> None:
    lonely_audio = [where for chapter in chapters.values() for _, where in chapter.waiting.values()]
    if lonely_audio:
        raise DataError("audio without a transcript, or twice", where=lonely_audio[0], hint="fetch the corpus again")
    lonely = [identity for chapter in chapters.values() for identity in chapter.transcripts or ()]
    if lonely:
        raise DataError(
            f"{len(lonely)} transcripts without audio, the first is {min(lonely)}",
            where=str(path),
            hint="fetch the corpus again",
        )
    if not chapters:
        raise DataError(f"no utterance among {num_files} files", where=str(path), hint="fetch the corpus again")


def write_subset(folder: Path, utterances: Iterable[tuple[str, str, NDArray[np.int16]]]) -> None:
    """Write ``(id, transcript, samples)`` as a subset in the public layout."""
    lines: dict[Path, list[str]] = {}
    for identity, transcript, samples in utterances:
        speaker, chapter, _ = identity.split("-")
        place = folder / speaker / chapter
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{identity}.flac", samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        lines.setdefault(place / f"{speaker}-{chapter}.trans.txt", []).append(f"{identity} {transcript}")
    for path, texts in lines.items():
        path.write_text("\n".join(texts) + "\n")
