"""One page of shared memory: flags that the referee raises and the trainer looks at, and the trainer's step.

Looking costs one read of memory and no system call: it happens after every step. A trainer can write whatever it likes
here: the referee goes by what it has raised itself.
"""

from __future__ import annotations

import fcntl
import mmap
import os

EVALUATE, CHECKPOINT, STOP = 1, 2, 4
"""Bits of the flags."""
_FLAGS, _STEP = 0, 8
"""Places in eights of bytes: in cache lines of their own."""


class Page:
    """The page as one side sees it.

    Args:
        descriptor: Of the memory file, as :func:`page_file` makes it.
    """

    def __init__(self, descriptor: int) -> None:
        self._words = memoryview(mmap.mmap(descriptor, mmap.PAGESIZE)).cast("q")
        self.raised = 0
        """What this side has raised."""

    def flags(self) -> int:
        """Return the raised flags: for the trainer."""
        return self._words[_FLAGS]

    def raise_flags(self, flags: int) -> None:
        """Raise flags; those that are up stay up."""
        self.raised |= flags
        self._words[_FLAGS] = self.raised

    def lower_flags(self) -> None:
        """Lower all flags."""
        self._words[_FLAGS] = self.raised = 0

    def step(self) -> int:
        """Return the step that the trainer says it has done: for showing, believed by nobody."""
        return self._words[_STEP]

    def set_step(self, step: int) -> None:
        """Say which step is done."""
        self._words[_STEP] = step


def page_file() -> int:
    """Return the descriptor of a new page; a child that inherits it sees the same memory."""
    descriptor = memory_file("perfbench-page")
    set_size(descriptor, mmap.PAGESIZE)
    return descriptor


def memory_file(name: str) -> int:
    """Return the descriptor of an empty file in memory: it has no place in any folder and no limit of its own."""
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def set_size(descriptor: int, num_bytes: int) -> None:
    """Give a memory file its size for good: whoever read beyond a smaller one would be ended by the system."""
    os.ftruncate(descriptor, num_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
