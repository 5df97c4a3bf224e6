"""The exception family: each error says what is wrong, where, and what to do about it.

Nothing here knows any other module of perfbench, so every layer can raise these.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar, Self

_WHAT_TO_DO = {
    errno.EACCES: "ask its owner for the permission, or choose another place",
    errno.EPERM: "ask its owner for the permission, or choose another place",
    errno.EROFS: "the disk is mounted read-only; choose another place",
    errno.ENOSPC: "the disk is full; free some space, or choose another place",
    errno.EDQUOT: "your quota is used up; free some space, or choose another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file where a folder belongs; move it away",
    errno.EISDIR: "a folder is where a file belongs; move it away",
    errno.EEXIST: "something is there already; move it away",
    errno.ELOOP: "a symbolic link is where a file belongs; it is not followed: move it away",
    errno.EIO: "the disk answers with errors; look at it, or choose another place",
    errno.ESTALE: "the network disk has lost the file; look at it, or try again",
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Moves the cursor, colours or reverses the text of a terminal, or begins a line."""


class ExitCode(IntEnum):
    """What the process tells the shell."""

    DONE = 0
    RUN_FAILED = 1
    IMPOSSIBLE_REQUEST = 2


class PerfbenchError(Exception):
    """An error that a person can act on.

    Args:
        what: What is wrong, with the offending value.
        where: Dotted path, file or rank that it was found at.
        hint: What to do: valid choices, the nearest name, a command.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.IMPOSSIBLE_REQUEST

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(str(self))

    @classmethod
    def of_file(cls, problem: OSError, *, what: str = "", where: str = "", hint: str = "") -> Self:
        """Return the error that tells of a file operation that failed.

        Args:
            problem: What the system said.
            what: What could not be done; the system's words follow it.
            where: The file, if the system does not name it.
            hint: What to do, if not what follows from the system's error number.
        """
        words = problem.strerror or str(problem) or type(problem).__name__
        named = "" if problem.filename is None else str(problem.filename)
        return cls(
            f"{what}: {words}" if what else words,
            where=named or where,
            hint=hint or _WHAT_TO_DO.get(problem.errno or 0, ""),
        )

    def __str__(self) -> str:
        """Return the message as it is shown: ``where: what`` and the hint on a line of its own."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        text = f"{head}\n  hint: {self.hint}" if self.hint else head
        return "\n".join(map(printable, text.split("\n")))


class ConfigError(PerfbenchError):
    """The composed configuration is impossible."""


class DataError(PerfbenchError):
    """A data set is missing, truncated or not what its manifest says."""


class WorkloadError(PerfbenchError):
    """A workload breaks the workload contract."""


class SubmissionError(PerfbenchError):
    """A submission breaks the submission contract or refuses its hyperparameters."""


class RulesError(PerfbenchError):
    """Something the rules of the benchmark forbid."""


class ResultsError(PerfbenchError):
    """A record on disk cannot be read or must not be overwritten."""


class ScoringError(PerfbenchError):
    """Records cannot be scored together."""


class LaunchError(PerfbenchError):
    """A trial could not be started where it was asked for."""


class TrialFailedError(PerfbenchError):
    """A trial started and then failed; its folder says why."""

    exit_code: ClassVar[ExitCode] = ExitCode.RUN_FAILED


class TrialInterruptedError(TrialFailedError):
    """A trial was told to stop, and can go on."""


def printable(name: object) -> str:
    r"""Return a name or path in which bytes that are no UTF-8 and control characters are escaped with a backslash.

    >>> printable("runs/caf\udce9"), printable("a\x1b[31m"), printable("caf\u00e9")
    ('runs/caf\\udce9', 'a\\x1b[31m', 'café')
    """
    text = str(name)
    if text.isascii() and text.isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def nearest_name_hint(name: str, known: Iterable[str], *, kind: str = "choices") -> str:
    """Return a hint that names the nearest known name, or lists all of them where none is near.

    >>> nearest_name_hint("ambre", ["amber", "green"])
    "'ambre': did you mean 'amber'?"
    >>> nearest_name_hint("zzz", ["amber", "green"], kind="workloads")
    "'zzz': known workloads are amber, green"
    """
    names = sorted(known)
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.6) or [n for n in names if n.startswith(name)]
    if matches:
        return f"{name!r}: did you mean {matches[0]!r}?"
    return f"{name!r}: known {kind} are {', '.join(names) or '(none)'}"
