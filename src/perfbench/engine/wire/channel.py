"""A line between two processes that carries messages: length, then JSON. Nobody waits longer than asked."""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from perfbench.engine.wire.messages import Message

_LENGTH = struct.Struct("<I")
_MAX_BYTES = 64 * 2**20
_PIECE_BYTES = 2**16
Received = TypeVar("Received", bound=Message)


class LineBroken(Exception):  # noqa: N818 - an end, expected or not, that each side explains in its own way
    """The other side has ended, or what it sends is no message."""


class Channel(Generic[Received]):
    """One end of the line.

    Args:
        line: A connected stream socket.
        receives: Validates what the other side may say.
    """

    def __init__(self, line: socket.socket, receives: TypeAdapter[Received]) -> None:
        self._line = line
        self._receives = receives
        self._pending = bytearray()

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            LineBroken: If the other side is gone.
        """
        text = message.to_json(indent=None).encode()
        try:
            self._line.sendall(_LENGTH.pack(len(text)) + text)
        except OSError as problem:
            raise LineBroken(str(problem)) from None

    def receive(self, timeout_s: float | None = None) -> Received | None:
        """Return the next message; ``None`` if there is none in time.

        Raises:
            LineBroken: If the other side is gone or sends what is no message.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (text := self._complete()) is None:
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            if not select.select([self._line], [], [], left_s)[0]:
                return None
            try:
                piece = self._line.recv(_PIECE_BYTES)
            except OSError as problem:
                raise LineBroken(str(problem)) from None
            if not piece:
                raise LineBroken("the other side has ended")
            self._pending += piece
        try:
            return self._receives.validate_json(text)
        except ValidationError as problem:
            raise LineBroken(f"not a message: {problem.errors(include_url=False)[:1]}") from None

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    def _complete(self) -> bytes | None:
        """Take a whole message from what has arrived."""
        if len(self._pending) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._pending)
        if length > _MAX_BYTES:
            raise LineBroken(f"a message of {length} bytes")
        end = _LENGTH.size + length
        if len(self._pending) < end:
            return None
        text = bytes(self._pending[_LENGTH.size : end])
        del self._pending[:end]
        return text
