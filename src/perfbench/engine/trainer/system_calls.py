"""System calls that a confined trainer has no use for: what Landlock does not watch over.

With them a program reaches others without a file (sockets, queues, keys, limits and priorities), leaves something on
files that it may only read (attributes, times, modes), or has its calls made by the kernel (io_uring). They fail, or do
nothing and say that they did where tools that compile call them. A filter of the kernel's (seccomp) answers them; it
needs no root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Iterator, Mapping

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _ANSWER = 0x20, 0x15, 0x35, 0x06
"""Instructions of the kernel's little machine (linux/filter.h)."""
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
"""Where in what the filter is shown (``struct seccomp_data``)."""
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000
_FOREIGN_NUMBERS = 0x40000000
"""From here on x86's calls of another kind (x32)."""

_NOTHING_DONE = {
    "x86_64": {"chmod": 90, "fchmod": 91, "fchmodat": 268, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260}
    | {"utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280},
    "aarch64": {"fchmod": 52, "fchmodat": 53, "fchown": 55, "fchownat": 54, "utimensat": 88},
}
"""They change nothing, and say nothing of it."""
_REFUSED = {
    "x86_64": {"shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240, "add_key": 248, "request_key": 249}
    | {"keyctl": 250, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "setpriority": 141, "ioprio_set": 251},
    "aarch64": {"shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180, "add_key": 217, "request_key": 218}
    | {"keyctl": 219, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "setpriority": 140, "ioprio_set": 30},
}
_REFUSED_EVERYWHERE = {"io_uring_setup": 425, "fchmodat2": 452, "setxattrat": 463, "file_setattr": 469}
"""Newer calls have one number on every architecture."""
_ON_ITSELF = {
    "x86_64": {"prlimit64": 302, "sched_setaffinity": 203, "sched_setscheduler": 144, "sched_setparam": 142}
    | {"sched_setattr": 314},
    "aarch64": {"prlimit64": 261, "sched_setaffinity": 122, "sched_setscheduler": 119, "sched_setparam": 118}
    | {"sched_setattr": 274},
}
"""Refused unless the first argument is 0, the caller: any process of the same user, the referee too, could be named."""
_SOCKET = {"x86_64": 41, "aarch64": 198}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""As the kernel names them (linux/audit.h)."""


def refuse_calls(*, has_network: bool) -> None:
    """Have these calls refused, in this process and in all that it starts, for good.

    Args:
        has_network: Whether sockets are none of them, but for those with names in folders: services of this machine
            listen there, and would do for a trainer what it may not. Pairs of connected sockets can always be made.

    Raises:
        OSError: If the kernel cannot, or has an architecture that is not known here.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no sandbox on {machine}: the numbers of its system calls are not known here")
    answers = dict.fromkeys(_NOTHING_DONE[machine].values(), 0)
    answers |= dict.fromkeys((*_REFUSED[machine].values(), *_REFUSED_EVERYWHERE.values()), errno.EPERM)
    if not has_network:
        answers[_SOCKET[machine]] = errno.EACCES
    instructions = list(_instructions(answers, machine))
    text = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in instructions))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(text))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def _instructions(answers: Mapping[int, int], machine: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield what to do, how many instructions to skip if true and if not, and with which number."""
    yield _LOAD, 0, 0, _ARCHITECTURE_AT
    yield _IF_EQUAL, 1, 0, _ARCHITECTURES[machine]
    yield _ANSWER, 0, 0, _FAIL_WITH | errno.ENOSYS
    yield _LOAD, 0, 0, _NUMBER_AT
    yield _IF_AT_LEAST, 0, 1, _FOREIGN_NUMBERS
    yield _ANSWER, 0, 0, _FAIL_WITH | errno.ENOSYS
    for number, answer in sorted(answers.items()):
        yield _IF_EQUAL, 0, 1, number
        yield _ANSWER, 0, 0, _FAIL_WITH | answer
    for number in sorted(_ON_ITSELF[machine].values()):
        yield _IF_EQUAL, 0, 4, number
        yield _LOAD, 0, 0, _FIRST_ARGUMENT_AT
        yield _IF_EQUAL, 1, 0, 0
        yield _ANSWER, 0, 0, _FAIL_WITH | errno.EPERM
        yield _ANSWER, 0, 0, _ALLOW
    yield _IF_EQUAL, 0, 3, _SOCKET[machine]
    yield _LOAD, 0, 0, _FIRST_ARGUMENT_AT
    yield _IF_EQUAL, 0, 1, socket.AF_UNIX
    yield _ANSWER, 0, 0, _FAIL_WITH | errno.EACCES
    yield _ANSWER, 0, 0, _ALLOW
