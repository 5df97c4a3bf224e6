"""Reads AlgoPerf log trees: ``<submission>/study_<i>/<workload>_<framework>/trial_<j>/eval_measurements.csv``.

Published trees are irregular, and every irregularity is reported with its file. Well-formed files with one header
are parsed together, which makes reading thousands of them a matter of a second; whatever is not well-formed goes
through ``algoperf_rows``, row by row.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from perfbench.results.algoperf_rows import LARGEST_STEP, Columns, columns_of, parse_rows
from perfbench.results.benchmark import Benchmark
from perfbench.results.files import read_regular_file
from perfbench.results.log_tree import LOG_NAME, LogTree, find_logs, no_logs, without_suffix
from perfbench.results.trials import Complaint, Floats, Integers, TrialKey, TrialLog, is_sorted

_MOST_BYTES = 64 << 20
"""Of one log: that of 100,000 evaluations is half as large, and the largest published one has 40 KB."""
_BYTES_PARSED_TOGETHER = 64 << 20
"""Bounds the memory for any number of files; larger is not faster."""


class _LogFile(NamedTuple):
    path: Path
    key: TrialKey
    metric: str


class _Body(NamedTuple):
    """A well-formed file without its header."""

    file: _LogFile
    rows: bytes
    num_rows: int


def read_algoperf_logs(paths: Sequence[Path], benchmark: Benchmark) -> tuple[list[TrialLog], list[Complaint]]:
    """Read every log of the benchmark's workloads under the paths, in order of name.

    Raises:
        ResultsError: If a path does not exist or there is no log under the paths.
    """
    return read_log_tree(find_logs(paths), benchmark)


def read_log_tree(tree: LogTree, benchmark: Benchmark) -> tuple[list[TrialLog], list[Complaint]]:
    """Read every log of the benchmark's workloads in a tree, in order of name.

    Raises:
        ResultsError: If there is none.
    """
    complaints = list(tree.complaints)
    logs: dict[TrialKey, TrialLog] = {}
    num_files = 0
    waiting: dict[tuple[bytes, str], list[_Body]] = defaultdict(list)
    num_bytes: Counter[tuple[bytes, str]] = Counter()
    for file in _files_of(tree, benchmark, complaints):
        num_files += 1
        try:
            content = read_regular_file(file.path, max_bytes=_MOST_BYTES)
        except OSError as problem:
            complaints.append(Complaint(file.path, f"left out: cannot be read: {problem.strerror or problem}"))
            continue
        header, _, rows = content.partition(b"\n")
        body = _well_formed(file, header, rows)
        if body is None:
            _add(logs, _read_carefully(file, content, complaints), complaints)
            continue
        group = (header, file.metric)
        waiting[group].append(body)
        num_bytes[group] += len(rows)
        if num_bytes[group] > _BYTES_PARSED_TOGETHER:
            for log in _parse_together(group, waiting.pop(group), complaints):
                _add(logs, log, complaints)
            num_bytes[group] = 0
    for group, bodies in waiting.items():
        for log in _parse_together(group, bodies, complaints):
            _add(logs, log, complaints)
    if not num_files:
        raise no_logs(tree.paths, f"no {LOG_NAME} of a workload of {benchmark.name} found")
    return [logs[key] for key in sorted(logs)], complaints


def _files_of(tree: LogTree, benchmark: Benchmark, complaints: list[Complaint]) -> Iterator[_LogFile]:
    """Yield the logs of the benchmark's workloads; complain once about every other workload."""
    foreign: Counter[str] = Counter()
    first_foreign: dict[str, Path] = {}
    for log in tree.logs:
        workload = without_suffix(log.workload_folder, benchmark.name_suffixes)
        if workload not in benchmark.workloads:
            foreign[workload] += 1
            first_foreign.setdefault(workload, log.path)
            continue
        key = TrialKey(log.submission, workload, log.study, log.trial)
        yield _LogFile(log.path, key, benchmark.workloads[workload].target.metric)
    for workload, count in foreign.items():
        what = f"left out with {count - 1} more: {workload!r} is no workload of {benchmark.name}"
        complaints.append(Complaint(first_foreign[workload], what, is_harmless=True))


def _well_formed(file: _LogFile, header: bytes, rows: bytes) -> _Body | None:
    """Return the file's rows if they can be parsed together with other files', by counting alone."""
    num_rows = rows.count(b"\n")
    is_rectangle = rows.count(b",") == num_rows * header.count(b",")
    is_plain = rows.endswith(b"\n") and b'"' not in rows and b"\r" not in header and b"\0" not in rows
    if not (is_rectangle and is_plain) or columns_of(header, file.metric) is None:
        return None
    return _Body(file, rows, num_rows)


def _parse_together(
    group: tuple[bytes, str], bodies: Sequence[_Body], complaints: list[Complaint]
) -> Iterator[TrialLog]:
    """Parse files that share a header; where that fails, or finds an odd value, go through a file row by row."""
    header, metric = group
    columns = columns_of(header, metric)
    assert columns is not None, "only files with the columns are collected"
    ends = np.cumsum([body.num_rows for body in bodies])
    text = b"".join(body.rows for body in bodies)
    table = _parse(text, columns, width=header.count(b",") + 1, num_rows=int(ends[-1]))
    if table is None:
        logs = (_read_carefully(body.file, header + b"\n" + body.rows, complaints) for body in bodies)
        yield from (log for log in logs if log is not None)
        return
    odd = frozenset(_odd_files(table, ends))
    with np.errstate(invalid="ignore"):  # what is no number is in an odd file
        steps, times_s, target_metric = table[0].astype(np.int64), table[1], table[2]
    for number, (body, end) in enumerate(zip(bodies, ends.tolist(), strict=True)):
        if number in odd:
            log = _read_carefully(body.file, header + b"\n" + body.rows, complaints)
            if log is not None:
                yield log
        else:
            part = slice(end - body.num_rows, end)
            yield TrialLog(body.file.key, body.file.path, steps[part], times_s[part], target_metric[part])


def _odd_files(table: Sequence[Floats], ends: Integers) -> Iterator[int]:
    """Yield which of the files have a value to look at: all rows of all files are tested at once."""
    steps, times_s, metric = table
    is_count = (steps >= 0) & (steps < LARGEST_STEP) & (steps == np.floor(steps))
    is_odd = ~(is_count & np.isfinite(times_s) & (times_s >= 0) & np.isfinite(metric))
    falls = (np.diff(steps) < 0) | (np.diff(times_s) < 0)
    falls[ends[(ends > 0) & (ends < len(steps))] - 1] = False  # from one file to the next
    is_odd[1:] |= falls
    yield from np.unique(np.searchsorted(ends, np.flatnonzero(is_odd), side="right")).tolist()
    yield from np.flatnonzero(np.diff(ends, prepend=0) == 0).tolist()


def _parse(text: bytes, columns: Columns, *, width: int, num_rows: int) -> list[Floats] | None:
    """Return steps, times and metric, or ``None`` if a value is no number or a row has more fields than others."""
    names = [f"column_{index + 1}" for index in range(width)]
    try:
        table = pl.read_csv(
            text, has_header=False, schema=dict.fromkeys(names, pl.Float64), columns=[names[index] for index in columns]
        )
    except pl.exceptions.PolarsError:
        return None
    if len(table) != num_rows:
        return None
    return [table[names[index]].fill_null(np.nan).to_numpy() for index in columns]


def _read_carefully(file: _LogFile, content: bytes, complaints: list[Complaint]) -> TrialLog | None:
    rows = parse_rows(content, file.metric)
    complaints.extend(Complaint(file.path, what) for what in rows.problems)
    complaints.extend(Complaint(file.path, what, is_harmless=True) for what in rows.notes)
    if rows.values is None:
        return None
    steps = np.array([row.step for row in rows.values], dtype=np.int64)
    times_s = np.array([row.submission_time_s for row in rows.values], dtype=np.float64)
    metric = np.array([row.metric for row in rows.values], dtype=np.float64)
    return _as_log(file, steps, times_s, metric, complaints)


def _as_log(
    file: _LogFile,
    steps: Integers,
    times_s: Floats,
    metric: Floats,
    complaints: list[Complaint],
) -> TrialLog:
    if not len(steps):
        complaints.append(Complaint(file.path, "no evaluation"))
    if not is_sorted(times_s) or not is_sorted(steps):
        complaints.append(Complaint(file.path, "steps or submission times go backwards; taken in the file's order"))
    num_missing = int(np.count_nonzero(~np.isfinite(metric)))
    if num_missing:
        what = f"{num_missing} of {len(metric)} evaluations have no finite {file.metric}"
        complaints.append(Complaint(file.path, what, is_harmless=True))
    return TrialLog(key=file.key, path=file.path, steps=steps, submission_times_s=times_s, target_metric=metric)


def _add(logs: dict[TrialKey, TrialLog], log: TrialLog | None, complaints: list[Complaint]) -> None:
    if log is None:
        return
    if log.key in logs:
        complaints.append(Complaint(log.path, f"left out: {log.key} is also in {logs[log.key].path}"))
        return
    logs[log.key] = log
