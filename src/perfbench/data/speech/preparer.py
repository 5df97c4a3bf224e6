"""What a speech family tells ``perfbench data prepare``: the same for all but for parameters."""

from __future__ import annotations

from pathlib import Path

from perfbench.data.preparation import Manifest, PrepareRequest
from perfbench.data.speech import preparation, sources
from perfbench.data.speech.params import SpeechParams
from perfbench.spec.workload import WorkloadSpec


class SpeechPreparer:
    """Prepares and verifies a corpus for a family: the public one, or a generated one in the same layout.

    Args:
        params_type: The family's parameters: a wrong one is refused before anything is read.
    """

    def __init__(self, params_type: type[SpeechParams]) -> None:
        self._params_type = params_type

    def required_bytes(self, request: PrepareRequest) -> int:
        """Return how much disk preparing needs at most."""
        return sources.required_bytes(request)

    def prepare(self, request: PrepareRequest) -> Manifest:
        """Convert the source (or generate a small one first) into ``request.destination``.

        Raises:
            DataError: If the source is missing, incomplete or damaged: names the file.
        """
        return sources.prepare(request, self._params(request.workload))

    def verify(self, workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
        """Check that ``folder`` holds what ``workload`` needs.

        Raises:
            DataError: Naming what is missing or differs.
        """
        return preparation.verify(self._params(workload), folder, prepare_command=prepare_command)

    def _params(self, workload: WorkloadSpec) -> SpeechParams:
        return self._params_type.from_mapping(workload.params, where="workload.params")
