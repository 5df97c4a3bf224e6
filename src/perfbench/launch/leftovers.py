"""Shared memory that a confined trainer left behind, where a later trial could find it: removed when it has ended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FOLDER = Path("/dev/shm")


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
