"""The result of one conformance check."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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


@dataclass(frozen=True, slots=True)
class Attention:
    """Which checks are to be made, and who hears of each before it is made."""

    wants: Callable[[str], bool] = lambda _name: True
    tell: Callable[[str], None] = lambda _name: None
    prefix: str = ""
    """Of the names of the checks."""

    def takes(self, name: str) -> bool:
        """Tell whether a check is to be made, and say that it is."""
        if not self.wants(self.prefix + name):
            return False
        self.tell(self.prefix + name)
        return True

    def under(self, name: str) -> Attention:
        """Return the attention for a part of the checks."""
        return Attention(self.wants, self.tell, f"{self.prefix}{name}: ")


EVERYTHING = Attention()


def raised(problem: BaseException) -> str:
    """Return what an exception says and where an author finds it: the innermost line outside of libraries and of us."""
    not_the_author_s = (Path(__file__).resolve().parents[2], Path(traceback.__file__).resolve().parent)
    frames = [
        frame
        for frame in traceback.extract_tb(problem.__traceback__)
        if "site-packages" not in frame.filename
        and frame.filename.endswith(".py")
        and not any(Path(frame.filename).resolve().is_relative_to(folder) for folder in not_the_author_s)
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"raised {type(problem).__name__}: {problem}{place}"
