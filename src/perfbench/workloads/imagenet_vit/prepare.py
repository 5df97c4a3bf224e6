"""Prepare and verify the images: ``perfbench.data.images`` does it, for every family on the same photographs."""

from __future__ import annotations

from perfbench.data.images import preparer
from perfbench.data.preparation import FamilyPreparer
from perfbench.workloads.imagenet_vit.params import Params

_PREPARER = FamilyPreparer(Params, preparer)
required_bytes, prepare, verify = _PREPARER.required_bytes, _PREPARER.prepare, _PREPARER.verify
