"""Writing so that nothing is ever half there (atomic replacement, append-only lines); reading that always ends."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NO_FSYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
"""What file systems answer that cannot sync a folder: then a rename is as safe as they make it."""
MOST_FACT_BYTES = 4 << 20
"""No record that is read whole is larger."""
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
"""What file systems answer that know no hard links."""


def open_plainly(path: Path, flags: int) -> int:
    """Return a descriptor of a plain file, never of what only looks like one.

    A link that somebody put there would lead the writing elsewhere, and a pipe would never answer.

    Args:
        path: The file.
        flags: Of ``os.open``; with ``O_CREAT`` a new file is as readable as the user's mask says.

    Raises:
        OSError: If it is a symbolic link, a pipe, a device or a folder, or cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    _require_plain(descriptor, path)
    return descriptor


def _require_plain(descriptor: int, path: Path | str) -> None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "a pipe or a device is where a file belongs", str(path))


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that becomes ``path`` when the block ends well, and vanishes when it does not.

    The bytes reach the disk before the name does (write, fsync, rename, fsync of the folder), so after a crash
    ``path`` holds either its old content or all of the new one.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # what a process of this number left when it was killed
    try:
        with os.fdopen(open_plainly(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text_atomically(path: Path, text: str) -> None:
    """Replace the content of ``path`` in one step."""
    with atomic_file(path) as file:
        file.write(text.encode())


def create_text(path: Path, text: str) -> bool:
    """Create ``path`` with this content, whole from its first moment; return whether it was not there.

    Of any number of processes on any number of machines, one is told that it was first.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    write_text_atomically(temporary, text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        return _create_without_links(path, text)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _create_without_links(path: Path, text: str) -> bool:
    try:
        descriptor = open_plainly(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut, where its file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, also where somebody took away the permission to.

    What cannot be removed all the same stays: a name that a network's file system keeps for an open file, for one.
    """
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        path.chmod(stat.S_IRWXU)
        for entry in list(os.scandir(path)):
            remove(Path(entry.path))
        path.rmdir()


def append_line(path: Path, line: str, *, durable: bool = True) -> None:
    """Append one line in a single write, first closing a line that a crash left torn.

    Args:
        path: File of lines; created if missing.
        line: Without the newline.
        durable: Wait until the line is on the disk.

    Raises:
        OSError: If the disk cannot take it, or only a part of it, or if the file is a link or no file.
    """
    assert "\n" not in line, "a record is one line"
    descriptor = open_plainly(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        separator = "\n" if is_torn else ""
        _write_whole(descriptor, f"{separator}{line}\n".encode())
        if durable:
            os.fsync(descriptor)
    except OSError as problem:  # of a descriptor the system does not know the name
        problem.filename = problem.filename or str(path)
        raise
    finally:
        os.close(descriptor)


def open_regular_file(path: Path) -> BinaryIO:
    """Open a file of bytes on a disk; a pipe, which may wait for ever, or a device, which may never end, is refused.

    Raises:
        OSError: If it cannot be opened or is no regular file.
    """
    descriptor, _ = _opened_regular(path)
    return os.fdopen(descriptor, "rb")


def _opened_regular(path: Path | str) -> tuple[int, int]:
    """Return a descriptor and the size in bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    _require_plain(descriptor, path)
    return descriptor, os.fstat(descriptor).st_size


def read_regular_file(path: Path | str, *, max_bytes: int) -> bytes:
    """Return the content of a file on a disk that is not larger than anything of its kind can be.

    Raises:
        OSError: If it cannot be read, is no regular file, or is larger.
    """
    descriptor, size = _opened_regular(path)
    try:
        parts = []
        while size <= max_bytes and (part := os.read(descriptor, min(size, max_bytes) + 1)):  # one call, as a rule
            parts.append(part)
            size = max(size, sum(map(len, parts)))
    finally:
        os.close(descriptor)
    if size > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes >> 20} MiB, which no such file is", str(path))
    return b"".join(parts)


def _write_whole(descriptor: int, content: bytes) -> None:
    if (num_written := os.write(descriptor, content)) != len(content):  # a disk that is full takes what fits
        raise OSError(errno.ENOSPC, f"only {num_written} of {len(content)} bytes could be written")


def read_lines(path: Path) -> list[str]:
    """Return the complete, non-empty lines of ``path``; a torn last line is left out. Empty if missing."""
    return list(iterate_lines(path))


def iterate_lines(path: Path) -> Iterator[str]:
    """Yield the complete, non-empty lines of ``path`` one at a time: a file may have millions of them."""
    try:
        file = open_regular_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        for line in file:
            if line.endswith(b"\n") and line.strip():
                yield line[:-1].decode(errors="replace")


def digest_of_file(path: Path) -> str:
    """Return 32 hexadecimal digits naming the content of a file (BLAKE2b)."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def digest_of_line(line: str) -> str:
    """Return 16 hexadecimal digits naming a line: the next one holds them, so that a change shows."""
    return hashlib.blake2b(line.encode(), digest_size=8).hexdigest()
