"""Prepare and verify the images: ``perfbench.data.images`` does it, for every family on the same photographs."""

from __future__ import annotations

from pathlib import Path

from perfbench.data.images import digits, packing
from perfbench.data.preparation import Manifest, PrepareRequest
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.imagenet_resnet.params import Params


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk the packs need at most."""
    return packing.required_bytes(request, digits.SMALL)


def prepare(request: PrepareRequest) -> Manifest:
    """Pack the public archives, class folders, or small images from a package.

    Raises:
        DataError: If a split or class is missing, an image is empty or damaged, or a count is wrong.
    """
    return packing.prepare(request, _params(request.workload), digits.SMALL)


def verify(workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what ``workload`` needs; reads only the manifest and file sizes.

    Raises:
        DataError: If files are missing or truncated, or counts are not the workload's.
    """
    return packing.verify(workload, _params(workload), folder, prepare_command=prepare_command)


def _params(workload: WorkloadSpec) -> Params:
    return Params.from_mapping(workload.params, where="workload.params")
