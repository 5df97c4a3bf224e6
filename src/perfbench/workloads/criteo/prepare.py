"""From the public text files to binary shards: streaming, resumable, checked; the manifest is written last.

Source files, in one folder: ``day_0.gz`` to ``day_23.gz`` as distributed, or ``day_N`` unpacked, or pieces
``day_N_nn``, or the arrays that torchrec's converter makes of a day (:mod:`.converted`). A day is cut into shards of
5,000,000 rows (a piece into one or more). Days 0 to 22 train; of day 23 the first ``floor(shards / 2) + 1`` shards test
and the rest validate (AlgoPerf specification, section 2.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import JsonValue

from perfbench.data.preparation import (
    FileEntry,
    Generator,
    Manifest,
    PrepareRequest,
    entry_for,
    passing_folder,
    require_counts,
    require_source_folder,
    small_data,
)
from perfbench.data.source_files import reading, size_of, unpacked
from perfbench.errors import DataError
from perfbench.results.files import append_line, read_lines
from perfbench.spec.base import Spec
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.criteo import converted
from perfbench.workloads.criteo.params import BUCKET_COUNTS, Params
from perfbench.workloads.criteo.shards import BYTES_PER_ROW, FORMAT_VERSION, write_shard
from perfbench.workloads.criteo.tsv import Rows, parse

ROWS_PER_SHARD = 5_000_000
NUM_DAYS = 24
_BLOCK_BYTES = 1 << 25
_BYTES_PER_PUBLIC_LINE = 190
"""At least this long on average, compressed about a third: for the disk budget."""
_SOURCE_NAME = re.compile(rf"day_(\d+)(?:_(\d+))?(\.gz|{re.escape(converted.SUFFIX)})?")
_PROGRESS = "shards.jsonl"


class ShardRecord(Spec):
    """A finished shard; one line of ``shards.jsonl`` while a preparation runs."""

    name: str
    source: str
    day: int
    num_rows: int
    entry: FileEntry


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk the shards (and generated text files) need at most."""
    if request.source is None:
        return _generator(request.workload).REQUIRED_BYTES
    total = 0
    for path, _day in _sources(request.source):
        if path.name.endswith(converted.SUFFIX):
            total += size_of(path) * BYTES_PER_ROW // converted.DENSE_BYTES_PER_ROW
        else:
            text_bytes = size_of(path) * (3 if path.suffix == ".gz" else 1)
            total += text_bytes * BYTES_PER_ROW // _BYTES_PER_PUBLIC_LINE
    return total


def prepare(request: PrepareRequest) -> Manifest:
    """Convert the source (or generate a small one first) into ``request.destination``.

    Raises:
        DataError: If a day is missing, or a file is empty, truncated or malformed: names file and line.
    """
    Params.from_mapping(request.workload.params, where="workload.params")
    if request.source is not None:
        return _convert(request, request.source, origin={"source": "public Criteo 1TB files"}, facts={})
    generator = _generator(request.workload)
    with passing_folder(request.destination / "raw") as raw:
        generated = generator.write_raw(raw, request.progress)
        return _convert(request, raw, origin=generated.origin, facts=generated.facts)


def verify(workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what ``workload`` needs; reads only the manifest and file sizes.

    Raises:
        DataError: If files are missing or truncated, or counts are not the workload's.
    """
    manifest = Manifest.read_checked(folder, format_version=FORMAT_VERSION, prepare_command=prepare_command)
    params = Params.from_mapping(workload.params, where="workload.params")
    require_counts(
        manifest.counts,
        params.expected_examples.items(),
        unit="examples",
        where=str(folder / "manifest.json"),
        hint=f"delete the folder and run `{prepare_command}` on the complete data",
    )
    return manifest


def split_of_shards(records: Iterable[ShardRecord]) -> dict[str, list[ShardRecord]]:
    """Deal shards to splits."""
    ordered = sorted(records, key=lambda record: (record.day, record.name))
    last = [record for record in ordered if record.day == NUM_DAYS - 1]
    num_test = len(last) // 2 + 1
    return {
        "train": [record for record in ordered if record.day < NUM_DAYS - 1],
        "test": last[:num_test],
        "validation": last[num_test:],
    }


def _generator(workload: WorkloadSpec) -> Generator:
    # They import polars, 50 MB that no trial needs: every trial verifies its data by this module.
    from perfbench.workloads.criteo import flights, planted

    known: dict[str, Generator] = {flights.NAME: flights, planted.NAME: planted}
    return small_data(
        known,
        workload,
        hint="accept the licence at Criteo AI Lab, fetch day_0.gz to day_23.gz, and give --source DIR",
    )


def _convert(
    request: PrepareRequest, source: Path, *, origin: dict[str, JsonValue], facts: dict[str, JsonValue]
) -> Manifest:
    destination = request.destination
    destination.mkdir(parents=True, exist_ok=True)
    sources = _sources(source)
    _check_days(source, sources)
    records = _finished(destination)
    rows_per_shard = int(str(request.options.get("rows_per_shard", ROWS_PER_SHARD)))
    total_bytes = sum(size_of(path) for path, _ in sources)
    done_bytes = 0
    for path, day in sources:
        for record in _convert_file(path, day, destination, rows_per_shard, records):
            records[record.name] = record
            append_line(destination / _PROGRESS, record.to_json(indent=None))
        done_bytes += size_of(path)
        request.progress("converting", done_bytes, total_bytes)
    splits = split_of_shards(records.values())
    manifest = Manifest(
        family=request.workload.family,
        dataset=request.workload.dataset,
        format_version=FORMAT_VERSION,
        origin={**origin, "bucket_counts": list(BUCKET_COUNTS), "hash": "farmhash fingerprint64"},
        counts={split: sum(record.num_rows for record in members) for split, members in splits.items()},
        facts={**facts, "shards": {s: {r.name: r.num_rows for r in members} for s, members in splits.items()}},
        files={record.name: record.entry for record in sorted(records.values(), key=lambda record: record.name)},
    )
    manifest.write(destination)
    (destination / _PROGRESS).unlink()
    return manifest


def _sources(folder: Path) -> list[tuple[Path, int]]:
    """Return the source files with their days, in order."""
    require_source_folder(folder)
    with reading(folder):
        found = [(path, match) for path in folder.iterdir() if (match := _SOURCE_NAME.fullmatch(path.name))]
    ordered = sorted(found, key=lambda item: (int(item[1][1]), int(item[1][2] or 0)))
    return [(path, int(match[1])) for path, match in ordered]


def _check_days(folder: Path, sources: list[tuple[Path, int]]) -> None:
    missing = sorted(set(range(NUM_DAYS)) - {day for _, day in sources})
    if missing:
        raise DataError(
            f"{len(missing)} of {NUM_DAYS} days are missing: {', '.join(f'day_{day}' for day in missing)}",
            where=str(folder),
            hint="the folder needs day_0.gz to day_23.gz (or the unpacked files, or torchrec's three .npy of each)",
        )
    for day in range(NUM_DAYS):
        _check_pieces([path for path, of_day in sources if of_day == day], day)
    empty = [path for path, _ in sources if size_of(path) == 0]
    if empty:
        raise DataError("the file is empty", where=str(empty[0]), hint="fetch it again")


def _check_pieces(paths: list[Path], day: int) -> None:
    """Check that a day is one file, or pieces without a gap, and nothing of it is there twice."""
    matches = [_SOURCE_NAME.fullmatch(path.name) for path in paths]
    pieces = [int(match[2]) for match in matches if match and match[2]]
    if len(set(pieces)) < len(pieces) or len(pieces) < len(paths) != 1:
        raise DataError(
            f"day {day} is there twice: {paths[0].name}, {paths[1].name}",
            where=str(paths[0].parent),
            hint="leave each day there once: packed, unpacked, or in pieces",
        )
    missing = sorted(set(range(len(pieces))) - set(pieces))
    if missing:
        raise DataError(
            f"day {day} has {len(pieces)} pieces, and none is day_{day}_{missing[0]:02d}",
            where=str(paths[0].parent),
            hint="a piece is missing: cut the day again",
        )


def _finished(destination: Path) -> dict[str, ShardRecord]:
    """Return the shards that an interrupted preparation finished: of each source, up to the first that is not whole."""
    found: dict[str, ShardRecord] = {}
    broken: set[str] = set()
    for line in read_lines(destination / _PROGRESS):
        record = ShardRecord.from_json(line, error=DataError)
        if record.source not in broken and record.entry.is_whole(destination / record.name):
            found[record.name] = record
        else:
            broken.add(record.source)
    return found


def _convert_file(
    path: Path, day: int, destination: Path, rows_per_shard: int, finished: dict[str, ShardRecord]
) -> Iterator[ShardRecord]:
    """Yield the shards of one source file that are not finished yet."""
    stem = path.name.removesuffix(".gz").removesuffix(converted.SUFFIX)
    num_known = sum(1 for record in finished.values() if record.source == path.name)
    num_skipped = sum(record.num_rows for record in finished.values() if record.source == path.name)
    is_last_known = any(record.source == path.name and record.num_rows < rows_per_shard for record in finished.values())
    if is_last_known:
        return
    for number, parts in enumerate(_shards_of(path, rows_per_shard, num_skipped), start=num_known):
        name = f"{stem}.{number:03d}.bin"
        write_shard(destination / name, parts)
        num_rows = sum(len(rows) for rows in parts)
        yield ShardRecord(name=name, source=path.name, day=day, num_rows=num_rows, entry=entry_for(destination / name))


def _shards_of(path: Path, rows_per_shard: int, num_skipped: int) -> Iterator[list[Rows]]:
    """Yield the rows of a file in shards, after the skipped ones."""
    is_converted = path.name.endswith(converted.SUFFIX)
    parts: list[Rows] = []
    num_rows = 0
    for block in converted.rows_of(path, first=num_skipped) if is_converted else _rows_of_text(path, num_skipped):
        rows = block
        while num_rows + len(rows) >= rows_per_shard:
            taken = rows_per_shard - num_rows
            yield [*parts, _cut(rows, 0, taken)]
            rows, parts, num_rows = _cut(rows, taken, len(rows)), [], 0
        if len(rows):
            parts.append(rows)
            num_rows += len(rows)
    if parts:
        yield parts


def _rows_of_text(path: Path, num_skipped: int) -> Iterator[Rows]:
    """Yield the rows of a text file, a block at a time, after the skipped ones."""
    line = 1
    for block in _blocks(path):
        num_lines = block.count(b"\n")
        if line + num_lines - 1 > num_skipped:
            yield _after(parse(block, where=str(path), first_line=line), num_skipped - (line - 1))
        line += num_lines


def _after(rows: Rows, num_skipped: int) -> Rows:
    return _cut(rows, num_skipped, len(rows)) if num_skipped > 0 else rows


def _cut(rows: Rows, start: int, stop: int) -> Rows:
    return Rows(rows.labels[start:stop], rows.integers[start:stop], rows.buckets[start:stop])


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield blocks of complete lines.

    Raises:
        DataError: If the file cannot be unpacked, or its last line has no end.
    """
    rest, is_empty = b"", True
    with unpacked(path) as file:
        while True:
            with reading(path):
                block = file.read(_BLOCK_BYTES)
            if not block:
                break
            is_empty = False
            complete = block.rfind(b"\n") + 1
            if complete:
                yield rest + block[:complete]
            rest = block[complete:] if complete else rest + block
    if is_empty:
        raise DataError("nothing is packed in it", where=str(path), hint="fetch it again")
    if rest:
        raise DataError("the last line has no end", where=str(path), hint="the file is truncated: fetch it again")
