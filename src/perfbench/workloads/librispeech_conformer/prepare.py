"""Prepare and verify the corpus: ``perfbench.data.speech`` does it, for every family on the same speech."""

from __future__ import annotations

from perfbench.data.preparation import FamilyPreparer
from perfbench.data.speech import sources
from perfbench.workloads.librispeech_conformer.params import Params

_PREPARER = FamilyPreparer(Params, sources)
required_bytes, prepare, verify = _PREPARER.required_bytes, _PREPARER.prepare, _PREPARER.verify
