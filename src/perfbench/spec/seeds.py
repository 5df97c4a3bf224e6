"""Seeds: one per trial, and from it one per random stream, the same on every machine and in every process."""

from __future__ import annotations

import hashlib
from enum import StrEnum

SEED_BOUND = 2**63
"""Seeds are below this, so that every generator in use takes them."""


class Stream(StrEnum):
    """What consumes random numbers. Streams are independent: drawing from one never moves another."""

    INIT = "init"
    DATA_ORDER = "data_order"
    AUGMENTATION = "augmentation"
    DROPOUT = "dropout"
    SUBMISSION = "submission"


def _seed_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % SEED_BOUND


def trial_seed(run_seed: int, *, study: int, trial: int) -> int:
    """Return the seed of a trial: a stable hash of exactly these three numbers.

    >>> trial_seed(0, study=0, trial=1) == trial_seed(0, study=0, trial=1)
    True
    >>> trial_seed(0, study=0, trial=1) == trial_seed(0, study=1, trial=0)
    False
    """
    return _seed_of(f"perfbench trial: run_seed={run_seed} study={study} trial={trial}")


def stream_seed(seed: int, stream: Stream, *, rank: int = 0) -> int:
    """Return the seed of one random stream of a trial; ``rank`` only for streams that must differ by rank."""
    return _seed_of(f"perfbench stream: seed={seed} stream={stream.value} rank={rank}")


def study_seed(run_seed: int) -> int:
    """Return the seed that deals quasi-random points to the studies of a run."""
    return _seed_of(f"perfbench studies: run_seed={run_seed}")
