"""Speech data for this family: the public corpus, or a generated one in the same layout."""

from __future__ import annotations

from pathlib import Path

from perfbench.data.preparation import Manifest, PrepareRequest
from perfbench.data.speech import preparation, sources
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.librispeech_deepspeech.params import Params


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk preparing needs at most."""
    return sources.required_bytes(request)


def prepare(request: PrepareRequest) -> Manifest:
    """Convert the source (or generate a small one first) into ``request.destination``.

    Raises:
        DataError: If the source is missing, incomplete or damaged: names the file.
    """
    return sources.prepare(request, Params.from_mapping(request.workload.params, where="workload.params"))


def verify(workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what ``workload`` needs.

    Raises:
        DataError: Naming what is missing or differs.
    """
    params = Params.from_mapping(workload.params, where="workload.params")
    return preparation.verify(params, folder, prepare_command=prepare_command)
