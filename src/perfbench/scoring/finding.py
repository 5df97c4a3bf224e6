"""One thing that must not be, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perfbench.errors import printable


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must not be."""

    check: str
    path: Path
    what: str

    def __str__(self) -> str:
        """Return the line that people see."""
        return f"{self.check}: {printable(self.path)}: {printable(self.what)}"
