"""The public format: compressed text of comma-separated small integers, without headers, one file per kind of row.

    raw/num-node-list.csv.gz   num-edge-list.csv.gz   node-feat.csv.gz   edge.csv.gz   edge-feat.csv.gz
    raw/graph-label.csv.gz     split/scaffold/{train,valid,test}.csv.gz

Each bond is stored once. A label is 0, 1, or missing: an empty field or ``nan``.
Source: Open Graph Benchmark, ``ogbg-molpcba`` version 1.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from perfbench.data.source_files import is_there, reading, unpacked
from perfbench.errors import DataError

if TYPE_CHECKING:
    import polars as pl

IntArray = NDArray[np.int64]

ATOM_COUNTS, BOND_COUNTS = "raw/num-node-list.csv.gz", "raw/num-edge-list.csv.gz"
ATOMS, BONDS, BOND_FEATURES = "raw/node-feat.csv.gz", "raw/edge.csv.gz", "raw/edge-feat.csv.gz"
LABELS = "raw/graph-label.csv.gz"
SPLIT_FILES = {
    "train": "split/scaffold/train.csv.gz",
    "validation": "split/scaffold/valid.csv.gz",
    "test": "split/scaffold/test.csv.gz",
}
FILES = (ATOM_COUNTS, BOND_COUNTS, ATOMS, BONDS, BOND_FEATURES, LABELS, *SPLIT_FILES.values())

_BLOCK_BYTES = 1 << 25
_MISSING_LABELS = ("", "nan", "NaN")
_LABEL = {"0": 0, "1": 1, "0.0": 0, "1.0": 1} | dict.fromkeys(_MISSING_LABELS, -1)
_DAMAGED = "the file is not in the public format, or it is damaged: fetch it again"


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows of numbers as the public data set does; ``None`` becomes an empty field. The bytes are stable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(",".join("" if field is None else str(field) for field in row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))


def integers(path: Path, *, limits: Sequence[int]) -> Iterator[IntArray]:
    """Yield blocks of rows of integers, one column for each limit.

    Args:
        path: Compressed file.
        limits: Each column's values are from 0 to below its limit.

    Raises:
        DataError: Naming file and line of the first row that is not so.
    """
    import polars as pl  # here and below: every trial verifies its data by way of this module, and none reads text

    pattern = re.compile(rb",".join([rb"[0-9]{1,18}"] * len(limits)))
    schema = {f"column_{number}": pl.Int64 for number in range(len(limits))}
    for first_line, block in _blocks(path):
        try:
            table = pl.read_csv(block, has_header=False, schema=schema, quote_char=None)
        except pl.exceptions.PolarsError:
            table = None
        if table is None or any(table.null_count().row(0)) or len(table) != block.count(b"\n"):
            raise _first_fault(path, block, first_line, pattern, len(limits))
        rows = table.to_numpy()
        wrong = np.argwhere((rows < 0) | (rows >= np.asarray(limits)))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise DataError(
                f"field {column + 1} is {rows[row, column]}, which is not from 0 to {limits[column] - 1}",
                where=f"{path}, line {first_line + row}",
                hint=_DAMAGED,
            )
        yield rows


def labels(path: Path, *, num_tasks: int) -> Iterator[NDArray[np.int8]]:
    """Yield blocks of labels ``[rows, num_tasks]``: 0, 1, or -1 where missing.

    Raises:
        DataError: Naming file and line of the first row with another number of fields, or another label.
    """
    import polars as pl

    pattern = re.compile(rb",".join([rb"[^,]*"] * num_tasks))
    schema = {f"column_{number}": pl.String for number in range(num_tasks)}
    for first_line, block in _blocks(path):
        if any(line.count(b",") != num_tasks - 1 for line in block[:-1].split(b"\n")):
            raise _first_fault(path, block, first_line, pattern, num_tasks)
        # Bytes that are no UTF-8 become a sign that is no label.
        table = pl.read_csv(block, has_header=False, schema=schema, quote_char=None, encoding="utf8-lossy")
        yield _coded(table, path, first_line)


def _coded(table: pl.DataFrame, path: Path, first_line: int) -> NDArray[np.int8]:
    import polars as pl

    coded = table.select(pl.all().fill_null("").replace_strict(_LABEL, default=None, return_dtype=pl.Int8))
    if any(coded.null_count().row(0)):
        is_wrong = coded.select(pl.all().is_null()).to_numpy()
        row, column = np.argwhere(is_wrong)[0].tolist()
        raise DataError(
            f"field {column + 1} is no label (0, 1, or empty where missing): {table[row, column]!r}",
            where=f"{path}, line {first_line + row}",
            hint=_DAMAGED,
        )
    return coded.to_numpy()


def _first_fault(path: Path, block: bytes, first_line: int, pattern: re.Pattern[bytes], num_fields: int) -> DataError:
    """Describe the first line of a block that does not have the form of its file."""
    for number, line in enumerate(block[:-1].split(b"\n")):
        if not pattern.fullmatch(line):
            found = line.count(b",") + 1
            what = f"{found} fields instead of {num_fields}" if found != num_fields else "not all fields are integers"
            shown = line[:60].decode(errors="replace")
            return DataError(f"{what}: {shown!r}", where=f"{path}, line {first_line + number}", hint=_DAMAGED)
    raise AssertionError(f"{path}: no line is at fault")


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield blocks of complete lines with the number of their first line.

    Raises:
        DataError: If the file is missing, empty or cannot be unpacked, or its last line has no end.
    """
    if not is_there(path):
        raise DataError("missing file", where=str(path), hint="give --source DIR: the unpacked archive `pcba.zip`")
    rest, line = b"", 1
    with unpacked(path) as file:
        while True:
            with reading(path):
                block = file.read(_BLOCK_BYTES)
            if not block:
                break
            complete, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield line, complete + newline
                line += complete.count(b"\n") + 1
    if rest or line == 1:
        what = "the last line has no end" if rest else "the file is empty"
        raise DataError(what, where=str(path), hint="the file is truncated: fetch it again")
