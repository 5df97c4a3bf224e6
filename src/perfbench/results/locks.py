"""Locks that end with the process that holds them, and with the children that it lets inherit them."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from perfbench.errors import LaunchError
from perfbench.results.files import open_plainly

_PROBE_S = 0.5
"""For so long a lock that is taken is tried again: somebody may only have looked whether it is."""
_PAUSE_S = 0.01
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP})
"""What file systems answer that cannot lock."""
_MOUNT_WITH_LOCKS = "mount it with locks (Lustre: -o flock; NFS: its lock daemon), or choose a folder on another disk"


@contextmanager
def held(path: Path, *, busy: str, hint: str = "", patience_s: float = 0.0) -> Iterator[int]:
    """Hold a lock while the block runs; yield its descriptor.

    The lock lasts until the last process that inherits the descriptor has ended: a child that is given it keeps the
    lock when its parent is killed. The file is created if it is missing, and never changed.

    Args:
        path: The lock's file.
        busy: What is wrong when another process holds it.
        hint: What to do then.
        patience_s: How long to wait for the other process.

    Raises:
        LaunchError: If another process holds it, or it cannot be locked.
    """
    deadline_s = time.monotonic() + max(patience_s, _PROBE_S)
    while True:
        descriptor = _opened(path)
        try:
            if _try_lock(descriptor, path) and _is_still(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)
        if time.monotonic() > deadline_s:
            raise LaunchError(busy, where=str(path.parent), hint=hint)
        time.sleep(_PAUSE_S)


def is_held(path: Path) -> bool:
    """Tell whether a process holds a lock; nothing is created, and a lock that cannot be looked at counts as free."""
    try:
        descriptor = open_plainly(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _opened(path: Path) -> int:
    try:
        return open_plainly(path, os.O_RDWR | os.O_CREAT)
    except PermissionError as problem:
        with suppress(OSError):
            return open_plainly(path, os.O_RDONLY)  # another user's: most file systems lock it all the same
        raise LaunchError.of_file(problem, what="the lock cannot be opened", where=str(path)) from None
    except OSError as problem:
        raise LaunchError.of_file(problem, what="the lock cannot be opened", where=str(path)) from None


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as problem:
        raise LaunchError.of_file(
            problem,
            what="files of this disk cannot be locked",
            where=str(path),
            hint=_MOUNT_WITH_LOCKS if problem.errno in _NO_LOCKS else "",
        ) from None
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Tell whether the file is still the one of that name: whoever removed the folder has ended the lock."""
    try:
        named = path.stat(follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))
