"""Confining a trainer by Landlock: it reaches the files that it is given and nothing else; so does all that it starts.

Landlock needs no root, no namespace and no helper program; it confines the thread that asks and everything started from
it, so it comes before torch is imported. Documentation/userspace-api/landlock.rst of Linux describes the calls. Where a
rank is alone it also moves into a network namespace of its own, in which there is no network at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from enum import IntFlag
from pathlib import Path

from perfbench.engine.wire.messages import Sandbox

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls; the same numbers on every architecture."""
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
LEAST_ABI = 3
"""Version of Landlock without which files could be emptied all the same (Linux 6.2)."""
_ABI_OF_NETWORK, _ABI_OF_DEVICES, _ABI_OF_SCOPES = 4, 5, 6


class Access(IntFlag):
    """What may be done beneath a path."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    TRUNCATE = 1 << 14
    IOCTL = 1 << 15


_ALL_OF_ABI = {3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Everything that a version knows of files, from which version on."""
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
    if not sandbox.has_network:
        _leave_network()
    handled = _ALL_OF_ABI[5 if version >= _ABI_OF_DEVICES else 3]
    network = _TCP if version >= _ABI_OF_NETWORK and not sandbox.has_network else 0
    scopes = _SCOPES if version >= _ABI_OF_SCOPES else 0
    attributes = struct.pack("=QQQ", handled, network, scopes)
    size = 8 if version < _ABI_OF_NETWORK else 16 if version < _ABI_OF_SCOPES else 24
    ruleset = _checked(_CREATE_RULESET, attributes, size, 0)
    rules = [(path, int(_READ)) for path in sandbox.readable]
    rules += [(path, int(Access.READ_DIR)) for path in sandbox.listable]
    rules += [(path, handled) for path in sandbox.writable]
    rules += [(path, int(_OF_A_FILE | Access.READ_DIR) & handled) for path in sandbox.devices]
    for path, access in rules:
        _allow(ruleset, path, access)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    _checked(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


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


def _leave_network() -> None:
    """Move into a network namespace of its own, if users may make one here; TCP is closed by Landlock in any case."""
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)


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
