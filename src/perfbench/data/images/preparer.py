"""What a family on labelled photographs tells ``perfbench data prepare``: the same for all but for parameters."""

from __future__ import annotations

from pathlib import Path

from perfbench.data.images import digits, fashion, packing
from perfbench.data.images.params import ImageParams
from perfbench.data.preparation import Manifest, PrepareRequest
from perfbench.spec.workload import WorkloadSpec

_SMALL = digits.SMALL | fashion.SMALL


class ImagePreparer:
    """Prepares and verifies images for a family.

    Args:
        params_type: The family's parameters: a wrong one is refused before anything is read.
    """

    def __init__(self, params_type: type[ImageParams]) -> None:
        self._params_type = params_type

    def required_bytes(self, request: PrepareRequest) -> int:
        """Return how much disk the packs need at most.

        Raises:
            DataError: If there is neither a source nor an installed package with the images.
        """
        return packing.required_bytes(request, self._params(request.workload), _SMALL)

    def prepare(self, request: PrepareRequest) -> Manifest:
        """Pack the public archives, class folders, or small images from a package.

        Raises:
            DataError: If a split or class is missing, an image is empty or damaged, or a count is wrong.
        """
        return packing.prepare(request, self._params(request.workload), _SMALL)

    def verify(self, workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
        """Check that ``folder`` holds what ``workload`` needs; reads only the manifest and file sizes.

        Raises:
            DataError: If files are missing or truncated, or counts are not the workload's.
        """
        return packing.verify(workload, self._params(workload), folder, prepare_command=prepare_command)

    def _params(self, workload: WorkloadSpec) -> ImageParams:
        return self._params_type.from_mapping(workload.params, where="workload.params")
