"""Writing so that nothing is ever half there (atomic replacement, append-only lines); reading that always ends."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that becomes ``path`` when the block ends well, and vanishes when it does not.

    The bytes reach the disk before the name does (write, fsync, rename, fsync of the folder), so after a crash
    ``path`` holds either its old content or all of the new one.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
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


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str, *, durable: bool = True) -> None:
    """Append one line in a single write, first closing a line that a crash left torn.

    Args:
        path: File of lines; created if missing.
        line: Without the newline.
        durable: Wait until the line is on the disk.

    Raises:
        OSError: If the disk cannot take it, or only a part of it.
    """
    assert "\n" not in line, "a record is one line"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        separator = "\n" if is_torn else ""
        content = f"{separator}{line}\n".encode()
        if (num_written := os.write(descriptor, content)) != len(content):  # a disk that is full takes what fits
            raise OSError(errno.ENOSPC, f"only {num_written} of {len(content)} bytes could be written", str(path))
        if durable:
            os.fsync(descriptor)
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
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise OSError(errno.EINVAL, f"{kind}, not a file", str(path))
    return descriptor, status.st_size


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


def read_lines(path: Path) -> list[str]:
    """Return the complete, non-empty lines of ``path``; a torn last line is left out. Empty if missing."""
    return list(iterate_lines(path))


def iterate_lines(path: Path) -> Iterator[str]:
    """Yield the complete, non-empty lines of ``path`` one at a time: a file may have millions of them."""
    if not path.exists():
        return
    with open_regular_file(path) as file:
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
