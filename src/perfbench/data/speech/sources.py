"""Where a speech corpus comes from: a folder of public files, or a module that writes the same layout."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from perfbench.data.preparation import (
    Manifest,
    PrepareRequest,
    Progress,
    passing_folder,
    require_source_folder,
    small_data,
)
from perfbench.data.speech import asterisk, espeak, preparation, tones
from perfbench.data.speech.params import SpeechParams


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
_HINT = "fetch the archives from openslr.org/12 and give --source DIR"


def required_bytes(request: PrepareRequest, params: SpeechParams) -> int:  # noqa: ARG001 - counted from the source
    """Return how much disk preparing needs at most.

    Raises:
        DataError: If the data set must be given and no source was, the source lacks a subset, or what a small corpus is
            made from is not installed.
    """
    if request.source is not None:
        return preparation.required_bytes(request.source)
    return small_data(_WRITERS, request.workload, hint=_HINT).required_bytes()


def prepare(request: PrepareRequest, params: SpeechParams) -> Manifest:
    """Convert the source, or write a small corpus first, into ``request.destination``.

    Raises:
        DataError: If the source is missing, incomplete or damaged: names the file.
    """
    if request.source is not None:
        require_source_folder(request.source)
        return preparation.convert(request, request.source, params, origin={"source": "public corpus"})
    writer = small_data(_WRITERS, request.workload, hint=_HINT)
    with passing_folder(request.destination / "raw") as raw:
        origin = writer.write_corpus(raw, request.progress)
        return preparation.convert(request, raw, params, origin=origin)


verify = preparation.verify
