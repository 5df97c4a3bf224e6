"""Where a speech corpus comes from: a folder of public files, or a module that writes the same layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from perfbench.data.preparation import Manifest, PrepareRequest, Progress
from perfbench.data.speech import asterisk, espeak, preparation, tones
from perfbench.data.speech.params import SpeechParams
from perfbench.errors import DataError


class Writer(Protocol):
    """A module that writes a small corpus."""

    NAME: str

    def required_bytes(self) -> int:
        """Return how much disk the corpus and its prepared form need; refuse if what it is made from is missing."""
        ...

    def write_corpus(self, folder: Path, progress: Progress) -> dict[str, JsonValue]:
        """Write all six subsets below ``folder``; return what the corpus was made from."""
        ...


_WRITERS: dict[str, Writer] = {module.NAME: module for module in (tones, espeak, asterisk)}


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk preparing needs at most.

    Raises:
        DataError: If the data set must be given and no source was, the source lacks a subset, or what a small corpus is
            made from is not installed.
    """
    if request.source is not None:
        return preparation.required_bytes(request.source)
    return _writer(request).required_bytes()


def prepare(request: PrepareRequest, params: SpeechParams) -> Manifest:
    """Convert the source, or write a small corpus first, into ``request.destination``.

    Raises:
        DataError: If the source is missing, incomplete or damaged: names the file.
    """
    if request.source is not None:
        if not request.source.is_dir():
            raise DataError("the source folder does not exist", where=str(request.source), hint="give --source DIR")
        return preparation.convert(request, request.source, params, origin={"source": "public corpus"})
    writer = _writer(request)
    raw = request.destination / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    try:
        origin = writer.write_corpus(raw, request.progress)
        return preparation.convert(request, raw, params, origin=origin)
    finally:
        shutil.rmtree(raw, ignore_errors=True)


def _writer(request: PrepareRequest) -> Writer:
    if request.workload.dataset not in _WRITERS:
        raise DataError(
            "needs the public files",
            where=f"data set {request.workload.dataset}",
            hint="fetch the archives from openslr.org/12 and give --source DIR",
        )
    return _WRITERS[request.workload.dataset]
