"""Where a speech corpus comes from: a folder of public files, or a generator that writes the same layout."""

from __future__ import annotations

from perfbench.data.preparation import Manifest, PrepareRequest, passing_folder, require_source_folder, small_data
from perfbench.data.speech import preparation, tones
from perfbench.data.speech.params import SpeechParams

_GENERATORS = {tones.NAME: tones}
_HINT = "fetch the archives from openslr.org/12 and give --source DIR"


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk preparing needs at most.

    Raises:
        DataError: If the data set has no generator and no source was given, or the source lacks a subset.
    """
    if request.source is not None:
        return preparation.required_bytes(request.source)
    return int(small_data(_GENERATORS, request.workload, hint=_HINT).REQUIRED_BYTES)


def prepare(request: PrepareRequest, params: SpeechParams) -> Manifest:
    """Convert the source, or generate a corpus first, into ``request.destination``.

    Raises:
        DataError: If the source is missing, incomplete or damaged: names the file.
    """
    if request.source is not None:
        require_source_folder(request.source)
        return preparation.convert(request, request.source, params, origin={"source": "public corpus"})
    generator = small_data(_GENERATORS, request.workload, hint=_HINT)
    with passing_folder(request.destination / "raw") as raw:
        origin = generator.write_corpus(raw, request.progress)
        return preparation.convert(request, raw, params, origin=origin)
