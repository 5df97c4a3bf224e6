"""Other people's files, opened so that whatever is wrong with one ends in a single error that names it.

How a file is packed is told by its first bytes, not by its name: browsers and mirrors unpack and keep the name.
"""

from __future__ import annotations

import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from perfbench.errors import DataError
from perfbench.results.files import open_regular_file

FETCH_AGAIN = "fetch it again"
DAMAGED = (OSError, EOFError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zlib.error, UnicodeError)
"""What reading and unpacking raise on files that are not what they should be."""
_GZIP = b"\x1f\x8b"
_KINDS = {
    b"<": "a web page",
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x89HDF": "an HDF5 file",
    b"BZh": "packed with bzip2",
}
_MOST_LEVELS = 50
"""Of folders below a source: public data sets have four at most."""
_CLUTTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found"})


def is_clutter(name: str) -> bool:
    """Tell whether a file or folder is what operating systems and notebooks leave behind.

    >>> [is_clutter(name) for name in ("._a.JPEG", ".ipynb_checkpoints", "__MACOSX", "n01440764")]
    [True, True, True, False]
    """
    return name.startswith(".") or name in _CLUTTER


def is_there(path: Path) -> bool:
    """Tell whether something has this name, be it a link to nowhere: opening it says what is wrong."""
    return path.is_symlink() or path.exists()


def size_of(path: Path) -> int:
    """Return a file's size in bytes.

    Raises:
        DataError: If it is no file, a link to nowhere, or cannot be read.
    """
    with opened(path) as file:
        return os.fstat(file.fileno()).st_size


def opened(path: Path) -> BinaryIO:
    """Open a file.

    Raises:
        DataError: If it is no file, a link to nowhere, or cannot be read.
    """
    try:
        return open_regular_file(path)
    except OSError as problem:
        raise unreadable(path, problem) from None


def content_of(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        DataError: If it is no file, a link to nowhere, or cannot be read.
    """
    with opened(path) as file, reading(path):
        return file.read()


@contextmanager
def reading(path: Path | str, *, hint: str = FETCH_AGAIN) -> Iterator[None]:
    """Turn what reading or unpacking a file raises into one error that names it.

    Raises:
        DataError: If the block raises such.
    """
    try:
        yield
    except DAMAGED as problem:
        raise unreadable(path, problem, hint=hint) from None


def unreadable(path: Path | str, problem: BaseException, *, hint: str = FETCH_AGAIN) -> DataError:
    """Return the error about a file that cannot be read, or not be unpacked."""
    path = Path(path)
    if isinstance(problem, FileNotFoundError):
        if path.is_symlink():
            return DataError(f"a link to nowhere: {path.readlink()}", where=str(path), hint="mend or remove the link")
        return DataError("the file is missing", where=str(path), hint=hint)
    if isinstance(problem, OSError) and problem.errno is not None:
        is_forbidden = isinstance(problem, PermissionError)
        what = f"cannot be read: {problem.strerror}"
        return DataError(what, where=str(path), hint="change its permissions" if is_forbidden else hint)
    return DataError(f"cannot be unpacked: {_first_line(problem)}{_but_it_is(path)}", where=str(path), hint=hint)


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for its content, packed with gzip or not.

    Raises:
        DataError: If it cannot be read; the block must guard its own reading with :func:`reading`.
    """
    with opened(path) as file:
        if file.peek(2)[:2] == _GZIP:  # type: ignore[attr-defined]  # a buffered reader
            with gzip.open(file, "rb") as content:
                yield content  # type: ignore[misc]  # GzipFile reads like a binary file
        else:
            yield file


def opened_tar(path: Path, *, is_streamed: bool = False) -> tarfile.TarFile:
    """Open a tar, however packed; a streamed one is read once, from front to back.

    Raises:
        DataError: If it is none, or cannot be read.
    """
    opened(path).close()
    with reading(path):
        return tarfile.open(path, "r|*" if is_streamed else "r:*")


def files_in_tar(path: Path, *, hint: str = FETCH_AGAIN) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield every regular file of a tar with its content to be read, in the order of storage; nothing is unpacked.

    Raises:
        DataError: If it is none, or damaged; whoever reads the content must guard that with :func:`reading`.
    """
    with opened_tar(path, is_streamed=True) as archive:
        members = iter(archive)
        while True:
            with reading(path, hint=hint):
                member = next(members, None)
                content = archive.extractfile(member) if member is not None and member.isreg() else None
            if member is None:
                return
            if content is not None:
                yield member, content


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, folder by folder and sorted; links are followed, loops and clutter left out.

    Raises:
        DataError: If a folder cannot be read, or a link leads nowhere.
    """

    def refuse(problem: OSError) -> None:
        raise unreadable(problem.filename, problem)

    visited: set[tuple[int, int]] = set()
    for name, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        status = Path(name).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        if folders and name.count(os.sep) - os.fspath(folder).count(os.sep) >= _MOST_LEVELS:
            raise DataError(f"{_MOST_LEVELS} levels deep", where=name, hint="is it the right folder?")
        folders[:] = sorted(one for one in folders if not is_clutter(one))
        yield from (Path(name) / one for one in sorted(files) if not is_clutter(one))


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, links to such included, without clutter.

    Raises:
        DataError: If it cannot be read, or a link in it leads nowhere.
    """
    with reading(folder):
        found = [path for path in folder.iterdir() if not is_clutter(path.name)]
    if lost := [path for path in found if not path.exists()]:
        raise unreadable(lost[0], FileNotFoundError())
    return sorted(path for path in found if path.is_dir())


def _first_line(problem: BaseException) -> str:
    return (str(problem) or type(problem).__name__).splitlines()[0]


def _but_it_is(path: Path) -> str:
    """Say what a file is that is not what its name says."""
    try:
        with open_regular_file(path) as file:
            start = file.read(512)
    except OSError:
        return ""
    if not start:
        return "; it is empty"
    for signature, kind in _KINDS.items():
        if start.lstrip().startswith(signature):
            return f"; it is {kind}"
    return "; it is text" if start.isascii() and b"\0" not in start else ""
