"""Prepare and verify the corpus: ``perfbench.data.speech`` does it, for every family on the same speech."""

from __future__ import annotations

from perfbench.data.speech.preparer import SpeechPreparer
from perfbench.workloads.librispeech_deepspeech.params import Params

_PREPARER = SpeechPreparer(Params)
required_bytes, prepare, verify = _PREPARER.required_bytes, _PREPARER.prepare, _PREPARER.verify
