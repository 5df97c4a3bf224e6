"""Days as torchrec's converter leaves them, three NumPy files each; ``n`` rows.

    day_N_dense.npy    float32 [n, 13]         log(v - m + 2) of every count v, where m is the smallest of the file
    day_N_sparse.npy   int64 or int32 [n, 26]  tokens as numbers
    day_N_labels.npy   int32 [n, 1]            0 or 1

What the form has lost, and what it costs here. A missing count became 0 and a missing token 00000000: nothing, they are
read so from the text too. The smallest count is not stored: that of 0 is the most frequent value of a file, since every
missing one has it, and counts are measured from there. Logarithms are float32: exact up to 950,000, and within two in
a million above.

Source: ``torchrec.datasets.criteo.BinaryCriteoUtils.tsv_to_npys`` (torchrec 1.9).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perfbench.data.source_files import DAMAGED, reading, size_of
from perfbench.errors import DataError
from perfbench.workloads.criteo.hashing import buckets_of
from perfbench.workloads.criteo.params import NUM_CATEGORICALS, NUM_INTEGERS
from perfbench.workloads.criteo.tsv import INT32_MAX, Rows

SUFFIX = "_dense.npy"
"""Of the file that stands for its day."""
DENSE_BYTES_PER_ROW = 4 * NUM_INTEGERS

_ROWS_PER_BLOCK = 1 << 16
_ROWS_OF_A_SAMPLE = 1 << 20
_SMALLEST_CODE = 2
_TOKEN_LIMIT = 1 << 32
_NOT_IT = "the file is not what torchrec's converter (npy_preproc_criteo) writes, or it is damaged"
_COLUMNS = {"dense": (NUM_INTEGERS, ("f4",)), "sparse": (NUM_CATEGORICALS, ("i4", "i8")), "labels": (1, ("i4",))}
_HALF_TOKENS = np.array([f"{half:04x}".encode() for half in range(1 << 16)]).view("<u4").astype(np.uint64)
"""The four characters of each half of a token, as one little-endian number."""


def rows_of(path: Path, *, first: int) -> Iterator[Rows]:
    """Yield a day's rows from row ``first`` on, a block at a time.

    Args:
        path: The day's ``day_N_dense.npy``; the other two files are beside it.
        first: How many rows to leave out.

    Raises:
        DataError: If a file is missing, damaged or of another form, or a value impossible: names file and row.
    """
    paths = {kind: path.with_name(path.name.removesuffix(SUFFIX) + f"_{kind}.npy") for kind in _COLUMNS}
    arrays = {kind: _mapped(paths[kind], kind) for kind in _COLUMNS}
    counts = {kind: len(array) for kind, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        raise DataError(f"the day's files have different numbers of rows: {told}", where=str(path), hint=_NOT_IT)
    code_of_zero = _code_of_zero(arrays["dense"][:_ROWS_OF_A_SAMPLE], path)
    for start in range(first, counts["dense"], _ROWS_PER_BLOCK):
        part = slice(start, start + _ROWS_PER_BLOCK)
        yield Rows(
            labels=_labels(np.asarray(arrays["labels"][part]), paths["labels"], start),
            integers=_integers(np.asarray(arrays["dense"][part]), code_of_zero, paths["dense"], start),
            buckets=_buckets(np.asarray(arrays["sparse"][part]), paths["sparse"], start),
        )


def _mapped(path: Path, kind: str) -> NDArray[np.generic]:
    hint = (
        "each day needs its dense, sparse and labels file; tokens that were numbered anew (*_contig_freq.npy) are lost"
    )
    with reading(path, hint=hint):
        path.stat()
    size_of(path)
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, *DAMAGED) as problem:
        raise DataError(f"cannot be read as NumPy's: {problem}", where=str(path), hint=_NOT_IT) from None
    columns, dtypes = _COLUMNS[kind]
    if array.shape[1:] != (columns,) or array.dtype.str[1:] not in dtypes or not len(array):
        raise DataError(
            f"shape {array.shape} and type {array.dtype}; [rows, {columns}] of {' or '.join(dtypes)} needed",
            where=str(path),
            hint=_NOT_IT,
        )
    return array


def _codes(dense: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return ``v - m + 2``."""
    codes: NDArray[np.float64] = np.rint(np.exp(dense.astype(np.float64)))
    return codes


def _code_of_zero(dense: NDArray[np.generic], path: Path) -> float:
    values, counts = np.unique(dense, return_counts=True)
    code = float(_codes(values[[counts.argmax()]])[0])
    if not _SMALLEST_CODE <= code < INT32_MAX:
        raise DataError(f"the most frequent value is {values[counts.argmax()]}", where=str(path), hint=_NOT_IT)
    return code


def _integers(dense: NDArray[np.generic], code_of_zero: float, path: Path, start: int) -> NDArray[np.int32]:
    with np.errstate(over="ignore"):
        codes = _codes(dense)
    _require((codes >= _SMALLEST_CODE) & np.isfinite(codes), dense, path, start, "is no logarithm of a count")
    return np.clip(codes - code_of_zero, 0, INT32_MAX).astype(np.int32)


def _labels(labels: NDArray[np.generic], path: Path, start: int) -> NDArray[np.uint8]:
    _require((labels == 0) | (labels == 1), labels, path, start, "is no label (0 or 1)")
    return labels[:, 0].astype(np.uint8)


def _buckets(sparse: NDArray[np.generic], path: Path, start: int) -> NDArray[np.int32]:
    if sparse.dtype.itemsize == 4:  # noqa: PLR2004 - bytes of an int32, in which the upper half of all tokens is negative
        tokens = sparse.astype(np.int32).view(np.uint32).astype(np.int64)
    else:
        tokens = sparse.astype(np.int64)
        tokens[tokens == -1] = 0  # the text's other form of a missing token
    _require((tokens >= 0) & (tokens < _TOKEN_LIMIT), sparse, path, start, "is no token of 32 bits")
    texts = _HALF_TOKENS[tokens >> 16] | (_HALF_TOKENS[tokens & 0xFFFF] << np.uint64(32))
    return np.stack([buckets_of(texts[:, column], column) for column in range(NUM_CATEGORICALS)], axis=1)


def _require(is_right: NDArray[np.bool_], values: NDArray[np.generic], path: Path, start: int, what: str) -> None:
    if is_right.all():
        return
    row, column = np.argwhere(~is_right)[0]
    raise DataError(f"{values[row, column]} {what}", where=f"{path}, row {start + row}, column {column}", hint=_NOT_IT)
