"""The 64-bit FarmHash fingerprint of short strings, and buckets of whole columns of tokens.

Source: FarmHash's published algorithm for up to 16 bytes; the figures that the tests check were measured on
TensorFlow's ``to_hash_bucket_fast`` (AlgoPerf criteo1tb specification, sections 3.1 and 8).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfbench.errors import DataError
from perfbench.workloads.criteo.params import BUCKET_COUNTS

UInt64Array = NDArray[np.uint64]

_K0 = 0xC3A5C85C97CB3127
_K2 = 0x9AE16A3B2F90404F
_MASK = (1 << 64) - 1
_MAX_LENGTH = 16
_TOKEN_LENGTH = 8


def fingerprint(text: bytes) -> int:
    """Return the fingerprint of up to 16 bytes: the plain form that the fast one below is tested against.

    Raises:
        DataError: If the text is longer.
    """
    n = len(text)
    if n > _MAX_LENGTH:
        raise DataError(f"cannot hash {n} bytes: {text!r}", hint="tokens have 8 hexadecimal digits")
    m = (_K2 + 2 * n) & _MASK
    if n >= _TOKEN_LENGTH:
        a = (_word(text, 0, 8) + _K2) & _MASK
        b = _word(text, n - 8, 8)
        x = (_rotated(b, 37) * m + a) & _MASK
        y = ((_rotated(a, 25) + b) * m) & _MASK
        return _mixed(x, y, m)
    if n >= 4:  # noqa: PLR2004 - the algorithm's own cases
        return _mixed((n + (_word(text, 0, 4) << 3)) & _MASK, _word(text, n - 4, 4), m)
    if n == 0:
        return _K2
    y = (text[0] + (text[n >> 1] << 8)) & 0xFFFFFFFF
    z = (n + (text[-1] << 2)) & 0xFFFFFFFF
    w = ((y * _K2) ^ (z * _K0)) & _MASK
    return ((w ^ (w >> 47)) * _K2) & _MASK


def buckets_of(tokens: UInt64Array, column: int) -> NDArray[np.int32]:
    """Return the bucket of each token of a categorical column.

    Args:
        tokens: The 8 characters of each token as one little-endian number, shape ``[n]``.
        column: 0 to 25; its decimal digits are appended to every token, so that equal tokens of different
            columns hash differently.
    """
    suffix = str(column).encode()
    n = np.uint64(_TOKEN_LENGTH + len(suffix))
    shift = np.uint64(8 * len(suffix))
    appended = np.uint64(int.from_bytes(suffix, "little") << (64 - 8 * len(suffix)))
    with np.errstate(over="ignore"):
        m = np.uint64(_K2) + n + n
        a = tokens + np.uint64(_K2)
        b = (tokens >> shift) | appended  # the last 8 of the 9 or 10 bytes
        x = _rotated_array(b, 37) * m + a
        y = (_rotated_array(a, 25) + b) * m
        u = (x ^ y) * m
        u ^= u >> np.uint64(47)
        v = (y ^ u) * m
        v ^= v >> np.uint64(47)
        hashed = v * m
    return (hashed % np.uint64(BUCKET_COUNTS[column])).astype(np.int32)


def _word(text: bytes, offset: int, size: int) -> int:
    return int.from_bytes(text[offset : offset + size], "little")


def _rotated(value: int, shift: int) -> int:
    return ((value >> shift) | (value << (64 - shift))) & _MASK


def _rotated_array(values: UInt64Array, shift: int) -> UInt64Array:
    return (values >> np.uint64(shift)) | (values << np.uint64(64 - shift))


def _mixed(x: int, y: int, m: int) -> int:
    u = ((x ^ y) * m) & _MASK
    u ^= u >> 47
    v = ((y ^ u) * m) & _MASK
    v ^= v >> 47
    return (v * m) & _MASK
