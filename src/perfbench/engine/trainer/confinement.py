"""Confining a trainer by Landlock: it reaches the files that it is given and nothing else; so does all that it starts.

Landlock needs no root, no namespace and no helper program; it confines the thread that asks and everything started from
it, so it comes before torch is imported. Documentation/userspace-api/landlock.rst of Linux describes the calls. What it
does not watch over is refused by :mod:`.system_calls`, and what root may do besides is given up.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from enum import IntFlag
from pathlib import Path

from perfbench.engine.trainer.system_calls import refuse_calls
from perfbench.engine.wire.messages import Sandbox

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls; the same numbers on every architecture."""
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522
LEAST_ABI = 6
"""Version of Landlock without which signals would reach other processes, and end the referee (Linux 6.12)."""


class Access(IntFlag):
    """What may be done beneath a path."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    TRUNCATE = 1 << 14
    IOCTL = 1 << 15


_ALL = (1 << 16) - 1
"""Everything that this version knows of files."""
_READ = Access.READ_FILE | Access.READ_DIR | Access.EXECUTE
_OF_A_FILE = Access.READ_FILE | Access.EXECUTE | Access.WRITE_FILE | Access.TRUNCATE | Access.IOCTL
_TCP = 0b11
"""Binding and connecting."""
_SCOPES = 0b11
"""Abstract sockets and signals: only among what is confined together."""


def landlock_version() -> int:
    """Return which version of Landlock the kernel has; 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION_FLAG))


def confine(sandbox: Sandbox) -> None:
    """Confine this process, for good.

    Raises:
        OSError: If the kernel cannot.
    """
    version = landlock_version()
    if version < LEAST_ABI:
        raise OSError(errno.ENOSYS, f"this kernel has no Landlock of version {LEAST_ABI} or later")
    ruleset = _checked(_CREATE_RULESET, struct.pack("=QQQ", _ALL, 0 if sandbox.has_network else _TCP, _SCOPES), 24, 0)
    rules = [(path, int(_READ)) for path in sandbox.readable]
    rules += [(path, int(Access.READ_DIR)) for path in sandbox.listable]
    rules += [(path, _ALL) for path in sandbox.writable]
    rules += [(path, int(_OF_A_FILE | Access.READ_DIR)) for path in sandbox.devices]
    for path, access in rules:
        _allow(ruleset, path, access)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if library.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)):  # effective, permitted, inheritable: none
        raise OSError(ctypes.get_errno(), "capset")
    _checked(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    refuse_calls(has_network=sandbox.has_network)


def _allow(ruleset: int, path: str, access: int) -> None:
    """Allow an access beneath a path; what does not exist needs no rule."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        allowed = access if Path(path).is_dir() else access & int(_OF_A_FILE)
        _checked(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", allowed, descriptor), 0)
    finally:
        os.close(descriptor)


def _checked(number: int, *arguments: object) -> int:
    result = _call(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return int(library.syscall(ctypes.c_long(number), *(_native(argument) for argument in arguments)))


def _native(argument: object) -> object:
    return ctypes.c_long(argument) if isinstance(argument, int) else argument
