"""Shared memory that a confined trainer left behind, where a later trial could find it: removed when it has ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

_FOLDER = Path("/dev/shm")
_SEGMENTS = Path("/proc/sysvipc/shm")
_REMOVE = 0
"""``IPC_RMID``."""


def remove_shared_memory(*, since_s: float) -> None:
    """Remove named shared memory of this user that is newer and that no living process uses.

    Args:
        since_s: Seconds of the system's clock.
    """
    in_use = _names_in_use()
    for path in _FOLDER.glob("*") if _FOLDER.is_dir() else ():
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_uid == os.getuid() and status.st_ctime >= since_s and str(path) not in in_use:
                path.unlink()
    for identifier in _idle_segments(since_s):
        ctypes.CDLL(None).shmctl(identifier, _REMOVE, None)


def _names_in_use() -> set[str]:
    """Return the files of shared memory that processes have mapped or open, as far as they can be looked at."""
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for line in (process / "maps").read_text().splitlines():
                if str(_FOLDER) in line:
                    found.add(line[line.index(str(_FOLDER)) :].removesuffix(" (deleted)"))
        with contextlib.suppress(OSError):
            found.update(str(link.readlink()) for link in (process / "fd").iterdir())
    return found


def _idle_segments(since_s: float) -> list[int]:
    """Return this user's unattached segments (System V) that were made since then."""
    if not _SEGMENTS.exists():
        return []
    header, *rows = _SEGMENTS.read_text().splitlines()
    names = header.split()
    segments = [dict(zip(names, map(int, row.split()), strict=False)) for row in rows]
    return [
        segment["shmid"]
        for segment in segments
        if segment["uid"] == os.getuid() and segment["nattch"] == 0 and segment["ctime"] >= int(since_s)
    ]
