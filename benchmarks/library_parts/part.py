"""What is compared: a part of ours and a library's, on one input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """One row of the table."""

    name: str
    call: str
    """Of the library."""
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]
    decision: str
    """Which is used, and why."""
    is_compiled: bool = False
    """Both are compiled whole for the comparison of times, as they would be inside a step."""
    is_random: bool = False
    """Both draw by themselves: their means are compared, not element by element."""
    has_gradient: bool = False
    """The time is that of forward and backward."""


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator of the inputs."""
    return torch.Generator().manual_seed(seed)
