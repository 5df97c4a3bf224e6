"""Random number generators of a rank: seeded once, captured and restored bit for bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from perfbench.spec.seeds import Stream, stream_seed


def seed_generators(seed: int, *, rank: int) -> None:
    """Seed Python's, NumPy's and torch's global generators for training.

    They drive dropout, so they differ by rank; initialisation and data order have streams of their own.
    """
    value = stream_seed(seed, Stream.DROPOUT, rank=rank)
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 - the global generator is what libraries read
    torch.manual_seed(value)


def capture_generators() -> dict[str, Any]:
    """Return the state of every generator as tensors, numbers and lists (what a checkpoint can hold)."""
    version, internal, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_generators(state: dict[str, Any]) -> None:
    """Restore what :func:`capture_generators` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
