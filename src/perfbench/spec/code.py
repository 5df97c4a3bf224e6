"""Which code a trial ran: a digest of every file, so that what differs between two moments can be named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from perfbench.spec.base import Spec

FileDigests = dict[str, str]
"""Digest by path, relative to the folder that is described."""


class CodeFiles(Spec):
    """Every file of what decides a trial's numbers besides its configuration."""

    submission: FileDigests
    """Of the submission's folder: code, data, binaries, and what links lead to."""
    workload: FileDigests
    """Of the family's folder."""
    package: FileDigests
    """Of this package, without the other families and without what only shows or scores results."""

    def parts(self) -> Iterator[tuple[str, FileDigests]]:
        """Yield each part's name and files."""
        yield "submission", self.submission
        yield "workload", self.workload
        yield "package", self.package

    def differences(self, now: CodeFiles) -> list[str]:
        """Return a line for each file that was changed, added or removed since, by part and path.

        >>> before = CodeFiles(submission={"a.py": "1", "b.py": "1"}, workload={}, package={})
        >>> before.differences(CodeFiles(submission={"a.py": "2", "c.bin": "1"}, workload={}, package={}))
        ['submission: a.py (changed)', 'submission: b.py (removed)', 'submission: c.bin (added)']
        """
        lines = []
        for (part, there), (_, here) in zip(self.parts(), now.parts(), strict=True):
            for path in sorted(there.keys() | here.keys()):
                if there.get(path) != here.get(path):
                    how = "removed" if path not in here else "added" if path not in there else "changed"
                    lines.append(f"{part}: {path} ({how})")
        return lines


class CodeChange(Spec):
    """A trial was continued with other code than it began with, because somebody asked for that."""

    attempt: int = Field(ge=1)
    """The first one that ran the changed code."""
    files: tuple[str, ...]
    """As :meth:`CodeFiles.differences` names them."""


class CodeRecord(Spec):
    """What a trial began with, and what it was continued with. Stored as ``code.json``."""

    schema_version: Literal[1] = 1
    began_with: CodeFiles
    continued_with: CodeFiles | None = None
    changes: tuple[CodeChange, ...] = ()
    """A trial with any is never scored: its time belongs to no one algorithm."""

    @property
    def latest(self) -> CodeFiles:
        """Return the code of the latest attempt."""
        return self.continued_with or self.began_with

    def changed_to(self, code: CodeFiles, *, attempt: int) -> CodeRecord:
        """Return the record of a trial that goes on with other code."""
        change = CodeChange(attempt=attempt, files=tuple(self.latest.differences(code)))
        return self.model_copy(update={"continued_with": code, "changes": (*self.changes, change)})


def digest_of(files: FileDigests) -> str:
    """Return 16 hexadecimal digits that name a set of files, names included."""
    return hashlib.blake2b(json.dumps(sorted(files.items())).encode(), digest_size=8).hexdigest()
