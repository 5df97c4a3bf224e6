"""The public text format, parsed a block at a time: 40 tab-separated fields, no header, empty where missing.

Everything is array arithmetic on the bytes of the block; no Python object is made per row or field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfbench.errors import DataError
from perfbench.workloads.criteo.hashing import buckets_of
from perfbench.workloads.criteo.params import NUM_CATEGORICALS, NUM_INTEGERS

NUM_FIELDS = 1 + NUM_INTEGERS + NUM_CATEGORICALS
_TAB, _NEWLINE, _MINUS, _ZERO = 9, 10, 45, 48
_TOKEN_LENGTH = 8
_MAX_DIGITS = 11
INT32_MAX = 2**31 - 1
_DEFAULT_TOKEN = int.from_bytes(b"00000000", "little")
_PADDING = bytes(_MAX_DIGITS + 1)

_IS_HEX = np.zeros(256, dtype=bool)
_IS_HEX[list(b"0123456789abcdef")] = True


@dataclass(frozen=True, slots=True)
class Rows:
    """Parsed rows."""

    labels: NDArray[np.uint8]
    """Shape ``[n]``: 0 or 1."""
    integers: NDArray[np.int32]
    """Shape ``[n, 13]``: ``max(v, 0)``, 0 where missing, saturating at the largest int32."""
    buckets: NDArray[np.int32]
    """Shape ``[n, 26]``: hash buckets, not rounded and not reduced to table rows."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class _Block:
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    where: str
    first_line: int

    def fail(self, row: int, field: int, what: str) -> DataError:
        start, length = self.starts[row, field], self.lengths[row, field]
        text = self.data[start : start + min(length, 40)].tobytes().decode(errors="replace")
        return DataError(
            f"field {field + 1} {what}: {text!r}",
            where=f"{self.where}, line {self.first_line + row}",
            hint="the file is not in the public format, or it is damaged: fetch it again",
        )


def parse(block: bytes, *, where: str, first_line: int = 1) -> Rows:
    """Parse complete lines.

    Args:
        block: Lines, the last one ended by a newline.
        where: File name for errors.
        first_line: Number of the block's first line in its file.

    Raises:
        DataError: Naming file and line of the first fault: number of fields, label, integer or token.
    """
    fields = _split(block, where, first_line)
    return Rows(labels=_labels(fields), integers=_integers(fields), buckets=_buckets(fields))


def _split(block: bytes, where: str, first_line: int) -> _Block:
    data = np.frombuffer(block + _PADDING, dtype=np.uint8)
    text = data[: len(block)]
    separators = np.flatnonzero((text == _TAB) | (text == _NEWLINE))
    is_newline = text[separators] == _NEWLINE
    num_lines = int(is_newline.sum())
    ends_of_lines = np.flatnonzero(is_newline)
    fields_of_lines = np.diff(ends_of_lines, prepend=-1)
    wrong = np.flatnonzero(fields_of_lines != NUM_FIELDS)
    if wrong.size or (block and block[-1] != _NEWLINE):
        row = int(wrong[0]) if wrong.size else num_lines
        count = int(fields_of_lines[row]) if wrong.size else 0
        what = f"{count} fields instead of {NUM_FIELDS}" if wrong.size else "the line has no end"
        raise DataError(what, where=f"{where}, line {first_line + row}", hint="the file is damaged or truncated")
    ends = separators.reshape(num_lines, NUM_FIELDS)
    starts = np.empty_like(ends)
    starts.reshape(-1)[0:1] = 0
    starts.reshape(-1)[1:] = separators[:-1] + 1
    return _Block(data, starts, ends - starts, where, first_line)


def _labels(block: _Block) -> NDArray[np.uint8]:
    values = block.data[block.starts[:, 0]] - _ZERO
    wrong = np.flatnonzero((block.lengths[:, 0] != 1) | (values > 1))
    if wrong.size:
        raise block.fail(int(wrong[0]), 0, "is no label (0 or 1)")
    return values


def _integers(block: _Block) -> NDArray[np.int32]:
    columns = slice(1, 1 + NUM_INTEGERS)
    starts, lengths = block.starts[:, columns], block.lengths[:, columns]
    is_negative = (lengths > 0) & (block.data[starts] == _MINUS)
    num_digits = lengths - is_negative
    values = np.zeros(starts.shape, dtype=np.int64)
    wrong = (num_digits > _MAX_DIGITS) | (is_negative & (num_digits == 0))
    first_digit = starts + is_negative
    for position in range(int(min(num_digits.max(initial=0), _MAX_DIGITS))):
        has_digit = num_digits > position
        digit = block.data[np.minimum(first_digit + position, len(block.data) - 1)].astype(np.int64) - _ZERO
        wrong |= has_digit & ((digit < 0) | (digit > 9))  # noqa: PLR2004 - decimal digits
        values = np.where(has_digit, values * 10 + digit, values)
    if wrong.any():
        row, column = (int(index[0]) for index in np.nonzero(wrong))
        raise block.fail(row, 1 + column, "is no integer")
    values[is_negative] = 0
    return np.minimum(values, INT32_MAX).astype(np.int32)


def _buckets(block: _Block) -> NDArray[np.int32]:
    # One 8-byte number at every byte: indexing it by a field's start reads the whole token at once.
    windows = np.ndarray((len(block.data) - 7,), dtype="<u8", buffer=block.data, strides=(1,))
    buckets = np.empty((len(block.starts), NUM_CATEGORICALS), dtype=np.int32)
    for column in range(NUM_CATEGORICALS):
        field = 1 + NUM_INTEGERS + column
        starts, lengths = block.starts[:, field], block.lengths[:, field]
        tokens = windows[starts]
        is_missing = (lengths == 0) | ((lengths == 2) & ((tokens & 0xFFFF) == 0x312D))  # noqa: PLR2004 - "-1"
        tokens[is_missing] = _DEFAULT_TOKEN
        is_hex = _IS_HEX[tokens.view(np.uint8)].reshape(-1, _TOKEN_LENGTH).all(axis=1)
        wrong = np.flatnonzero(~is_missing & ((lengths != _TOKEN_LENGTH) | ~is_hex))
        if wrong.size:
            raise block.fail(int(wrong[0]), field, "is no token of 8 lower-case hexadecimal digits")
        buckets[:, column] = buckets_of(tokens, column)
    return buckets
