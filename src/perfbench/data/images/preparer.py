"""Labelled photographs for every family: the public archives or class folders, or small images from a package."""

from __future__ import annotations

from perfbench.data.images import digits, fashion, packing
from perfbench.data.images.params import ImageParams
from perfbench.data.preparation import Manifest, PrepareRequest

_SMALL = digits.SMALL | fashion.SMALL


def required_bytes(request: PrepareRequest, params: ImageParams) -> int:
    """Return how much disk the packs need at most.

    Raises:
        DataError: If there is neither a source nor an installed package with the images.
    """
    return packing.required_bytes(request, params, _SMALL)


def prepare(request: PrepareRequest, params: ImageParams) -> Manifest:
    """Pack the images.

    Raises:
        DataError: If a split or class is missing, an image is empty or damaged, or a count is wrong.
    """
    return packing.prepare(request, params, _SMALL)


verify = packing.verify
