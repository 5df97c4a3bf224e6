"""The result of one conformance check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one check found.

    Invariant: a failed finding's ``detail`` says what was expected, what was seen, and where.
    """

    name: str
    """A sentence that holds where the check passes."""
    passed: bool
    detail: str = ""

    def __str__(self) -> str:
        """Return one line for a terminal."""
        mark = "ok" if self.passed else "FAILED"
        return f"{mark}: {self.name}" + (f" ({self.detail})" if self.detail else "")
