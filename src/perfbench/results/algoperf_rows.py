"""One AlgoPerf log, row by row: slow, and exact about what is wrong where."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

STEP = "global_step"
TIME = "accumulated_submission_time"
LARGEST_STEP = 2**53
"""Above this, counting in a float64 column (which published tables are written from) skips numbers."""


class Columns(NamedTuple):
    """Where the needed columns are, counted from zero."""

    step: int
    submission_time_s: int
    metric: int


class Row(NamedTuple):
    """One evaluation."""

    step: int
    submission_time_s: float
    metric: float


@dataclass(slots=True)
class Rows:
    """What one file holds."""

    values: list[Row] | None = None
    """``None`` where the file is no log of this metric."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the format allows a killed run to leave behind."""


@cache
def columns_of(header: bytes, metric: str) -> Columns | None:
    """Find the columns in a header line; ``None`` unless each is there once."""
    names = header.decode(errors="replace").rstrip("\r").split(",")
    needed = (STEP, TIME, metric)
    if any(names.count(name) != 1 for name in needed):
        return None
    return Columns(*(names.index(name) for name in needed))


def parse_rows(content: bytes, metric: str) -> Rows:
    r"""Read a log that may be damaged; every problem names its line.

    >>> parse_rows(b"global_step,accumulated_submission_time,validation/loss\n1,2.5,0.1\n2,5.0,0.", "validation/loss")
    Rows(values=[Row(step=1, submission_time_s=2.5, metric=0.1)], problems=[], notes=['the last line is torn ...'])
    """
    header, end, body = content.partition(b"\n")
    columns = columns_of(header.removeprefix(b"\xef\xbb\xbf"), metric)
    if columns is None:
        return Rows(problems=[_header_problem(header, metric)])
    if not end:
        return Rows(values=[], notes=["only a header that is torn"])
    complete, _, torn = body.rpartition(b"\n")
    values: list[Row] = []
    found = Rows(values)
    if torn.strip():
        found.notes.append("the last line is torn and was left out")
    width = header.count(b",") + 1
    reader = csv.reader(io.StringIO(complete.decode(errors="replace"), newline=""))
    try:
        for fields in reader:
            if not any(fields):
                continue
            row = _parsed(fields, columns, width)
            if isinstance(row, str):
                found.problems.append(f"line {reader.line_num + 1} was left out: {row}")
            else:
                values.append(row)
    except csv.Error as problem:
        found.problems.append(f"nothing after line {reader.line_num + 1} was read: {problem}")
    return found


def _header_problem(header: bytes, metric: str) -> str:
    names = header.decode(errors="replace").split(",")
    for name in (STEP, TIME, metric):
        if names.count(name) != 1:
            return f"left out: {'more than one' if names.count(name) else 'no'} column {name!r}"
    return "left out: the header cannot be read"


def _parsed(fields: list[str], columns: Columns, width: int) -> Row | str:
    """Return the row, or what is wrong with it."""
    if len(fields) != width:
        return f"{len(fields)} fields under {width} columns"
    try:
        step = float(fields[columns.step])
        time_s = float(fields[columns.submission_time_s])
        metric = float(fields[columns.metric] or math.nan)
    except ValueError as problem:
        return str(problem)
    if not (step.is_integer() and 0 <= step < LARGEST_STEP):  # an infinite number is no integer
        return f"{fields[columns.step]!r} is no count of steps"
    if not (math.isfinite(time_s) and time_s >= 0):
        return f"{fields[columns.submission_time_s]!r} is no time in seconds"
    return Row(int(step), time_s, metric)
