"""Describing a folder of code file by file: whatever is in it, and whatever its links lead to."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from perfbench.results.files import digest_of_file
from perfbench.spec.code import FileDigests

_WRITTEN_BY_TOOLS = (
    "__pycache__", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".DS_Store",
    ".*.sw?", "*~", ".#*", "#*#",
)  # fmt: skip
"""Names of what Python, linters and open editors leave beside code: it comes and goes while nobody changes anything."""

_MOST_BYTES = 4 << 20
_MOST_BYTES_OF_A_FILE = 1 << 18


def digests_of_files(folder: Path, *, left_out: frozenset[str] = frozenset()) -> FileDigests:
    """Return the digest of every file at or below a folder, by relative path, sorted; links are followed.

    A link to nowhere, or back into a folder that holds it, and what is no file (a pipe, a socket) is named by what it
    is: nothing is opened that could block.

    Args:
        folder: Where.
        left_out: Relative paths of files and folders that are not looked at.

    Raises:
        OSError: If a file cannot be read.
    """
    found = {relative: _described(path) for relative, path in _entries(folder, "", frozenset(), left_out)}
    return dict(sorted(found.items()))


def _entries(
    folder: Path, prefix: str, inside: frozenset[tuple[int, int]], left_out: frozenset[str]
) -> Iterator[tuple[str, Path]]:
    """Yield everything that is no folder, and links that lead back; ``inside`` are the folders on the way here."""
    status = folder.stat()
    inside = inside | {(status.st_dev, status.st_ino)}
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        relative = f"{prefix}{entry.name}"
        if relative in left_out or any(fnmatch.fnmatchcase(entry.name, name) for name in _WRITTEN_BY_TOOLS):
            continue
        path = Path(entry.path)
        if entry.is_dir():
            below = path.stat()
            if (below.st_dev, below.st_ino) not in inside:
                yield from _entries(path, f"{relative}/", inside, left_out)
                continue
        yield relative, path


def _described(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, OSError):
        return f"link to {path.readlink()}"
    if stat.S_ISREG(mode):
        return digest_of_file(path)
    return f"link to {path.readlink()}" if path.is_symlink() else f"no file (mode {stat.S_IFMT(mode):o})"


def copy_texts(folder: Path, target: Path) -> None:
    """Copy what people can read of a folder's files, so that two trials' code can be compared line by line.

    Files of more than a quarter of a mebibyte and binary ones stay where they are, as does what comes after four
    mebibytes: their digests are on record.

    Raises:
        OSError: If something cannot be read or written.
    """
    left = _MOST_BYTES
    for relative, path in _entries(folder, "", frozenset(), frozenset()):
        if not path.is_file() or path.stat().st_size > min(left, _MOST_BYTES_OF_A_FILE):
            continue
        content = path.read_bytes()
        if b"\0" in content:
            continue
        left -= len(content)
        copy = target / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
