"""Corpus BLEU as counts that add over batches and ranks, by sacreBLEU.

Signature ``nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp``: equal to the published metric (AlgoPerf wmt
specification, section 6.2), which follows sacreBLEU 1.3: text without a single matching n-gram, for which later
versions give 0, is smoothed like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

_ORDER = 4
NUM_COUNTS = 2 + 2 * _ORDER
"""Lengths of hypotheses and references in words, n-grams that match, n-grams in all (n from 1 to 4)."""

# `force` only silences a warning about text that looks tokenised already.
_METRIC = BLEU(tokenize="13a", smooth_method="exp", effective_order=False, force=True)


def counts(hypotheses: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    """Return the counts of some sentences, shape ``[NUM_COUNTS]``."""
    if not hypotheses:
        return np.zeros(NUM_COUNTS, dtype=np.int64)
    found = _METRIC.corpus_score(list(hypotheses), [list(references)])
    return np.asarray([found.sys_len, found.ref_len, *found.counts, *found.totals], dtype=np.int64)


def score(counted: NDArray[np.int64]) -> float:
    """Return BLEU in percent of added counts.

    >>> score(counts(["the cat sat on it"], ["the cat sat on the mat"]))
    54.7518...
    """
    matching, totals = counted[2 : 2 + _ORDER].tolist(), counted[2 + _ORDER :].tolist()
    if not any(matching):
        return _score_without_a_match(totals, int(counted[0]), int(counted[1]))
    found = BLEU.compute_bleu(matching, totals, int(counted[0]), int(counted[1]), smooth_method="exp")
    return float(found.score)


def _score_without_a_match(totals: Sequence[int], num_words: int, num_reference_words: int) -> float:
    """Return BLEU where no n-gram matches: each order's precision is half as smooth as the one before."""
    if not all(totals):
        return 0.0
    logarithms = [math.log(100.0 / (2**order * total)) for order, total in enumerate(totals, start=1)]
    brevity = min(0.0, 1.0 - num_reference_words / num_words)
    return math.exp(brevity + math.fsum(logarithms) / _ORDER)
