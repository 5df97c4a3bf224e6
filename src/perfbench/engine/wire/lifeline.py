"""How a process ends: with its parent, however that ends, and at once. Imports nothing that takes time."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """Ask the kernel to end this process when its parent dies (Linux); end now if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def end_at_once(code: int) -> NoReturn:
    """End this process, whose work is done: taking an interpreter with torch apart would take another second or two."""
    atexit._run_exitfuncs()  # noqa: SLF001 - temporary files, compilers' processes; the one way to ask for them
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody listens any more
            stream.flush()
    os._exit(code)
