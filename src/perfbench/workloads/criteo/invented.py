"""Batches of clicks that nobody made, as unequal as the public ones."""

from __future__ import annotations

import torch

from perfbench.api.workload import Batch
from perfbench.data.inventing import Inventor
from perfbench.workloads.criteo.params import BUCKET_COUNTS, NUM_INTEGERS

_CLICK_RATE = 0.03
"""About that of the public data."""
_LARGEST_LOGARITHM = 12.0
_SCATTER = 2_654_435_761
"""Odd: neighbours in frequency are no neighbours in the table, as after hashing."""


def invented_clicks(drawn: Inventor, batch_size: int) -> Batch:
    """Return a batch whose ids follow Zipf's law within each column's buckets, and integers spread over magnitudes."""
    ids = [drawn.ranks(count, batch_size).mul_(_SCATTER).remainder_(count).to(torch.int32) for count in BUCKET_COUNTS]
    magnitudes = drawn.uniform(0.0, _LARGEST_LOGARITHM, batch_size, NUM_INTEGERS) * drawn.uniform(
        0.0, 1.0, NUM_INTEGERS
    )
    return {
        "integers": magnitudes.expm1().to(torch.int32),
        "ids": torch.stack(ids, dim=1),
        "targets": (drawn.uniform(0.0, 1.0, batch_size) < _CLICK_RATE).to(torch.float32),
        "weights": torch.ones(batch_size),
    }
