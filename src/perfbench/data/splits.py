"""What a workload opens for each split, when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Opened = TypeVar("Opened")


class BySplit(dict[str, Opened]):
    """Opens a split's data at its first use: whoever trains never opens evaluation data, and may not be able to.

    Args:
        open_split: Opens the data of a split by its name.
    """

    def __init__(self, open_split: Callable[[str], Opened]) -> None:
        super().__init__()
        self._open_split = open_split

    def __missing__(self, split: str) -> Opened:
        """Open the split, once."""
        opened = self[split] = self._open_split(split)
        return opened
