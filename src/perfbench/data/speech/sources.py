"""Where a speech corpus comes from: a folder of public files, or a generator that writes the same layout."""

from __future__ import annotations

import shutil

from perfbench.data.preparation import Manifest, PrepareRequest
from perfbench.data.speech import preparation, tones
from perfbench.data.speech.params import SpeechParams
from perfbench.errors import DataError

_GENERATORS = {tones.NAME: tones}


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk preparing needs at most.

    Raises:
        DataError: If the data set has no generator and no source was given, or the source lacks a subset.
    """
    if request.source is not None:
        return preparation.required_bytes(request.source)
    _check_generated(request)
    return int(_GENERATORS[request.workload.dataset].REQUIRED_BYTES)


def prepare(request: PrepareRequest, params: SpeechParams) -> Manifest:
    """Convert the source, or generate a corpus first, into ``request.destination``.

    Raises:
        DataError: If the source is missing, incomplete or damaged: names the file.
    """
    if request.source is not None:
        if not request.source.is_dir():
            raise DataError("the source folder does not exist", where=str(request.source), hint="give --source DIR")
        return preparation.convert(request, request.source, params, origin={"source": "public corpus"})
    _check_generated(request)
    raw = request.destination / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    try:
        origin = _GENERATORS[request.workload.dataset].write_corpus(raw, request.progress)
        return preparation.convert(request, raw, params, origin=origin)
    finally:
        shutil.rmtree(raw, ignore_errors=True)


def _check_generated(request: PrepareRequest) -> None:
    if request.workload.dataset not in _GENERATORS:
        raise DataError(
            "needs the public files",
            where=f"data set {request.workload.dataset}",
            hint="fetch the archives from openslr.org/12 and give --source DIR",
        )
