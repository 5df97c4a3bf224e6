"""From public text files to shards: splits, resuming, and every way in which a file can be damaged."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perfbench.compose import compose_workload
from perfbench.data.preparation import FileEntry, Manifest, PrepareRequest
from perfbench.data.sampling import RowRange
from perfbench.errors import DataError
from perfbench.workloads.criteo import planted, prepare
from perfbench.workloads.criteo.params import BUCKET_COUNTS
from perfbench.workloads.criteo.prepare import ROWS_PER_SHARD, ShardRecord, split_of_shards
from perfbench.workloads.criteo.shards import BYTES_PER_ROW, Mapped, ShardReader, write_shard
from perfbench.workloads.criteo.tsv import parse

ROWS_PER_DAY = 40


def request(source: Path, destination: Path, rows_per_shard: int = 16) -> PrepareRequest:
    return PrepareRequest(
        workload=compose_workload("criteo", scale="full"),
        destination=destination,
        source=source,
        progress=lambda what, done, total: None,
        options={"rows_per_shard": rows_per_shard},
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Public-format pieces of planted rows."""
    folder = tmp_path_factory.mktemp("raw")
    planted.write_rows(folder, lambda *_: None, seed=3, num_train_rows=23 * ROWS_PER_DAY, num_held_out_rows=107)
    return folder


def as_published(raw: Path, folder: Path) -> Path:
    """Return the same rows as the archive distributes them: one compressed file per day."""
    folder.mkdir()
    for day in range(24):
        pieces = sorted(raw.glob(f"day_{day}_*"))
        (folder / f"day_{day}.gz").write_bytes(gzip.compress(b"".join(p.read_bytes() for p in pieces), 1, mtime=0))
    return folder


def all_rows(folder: Path, manifest: Manifest, split: str) -> Mapped:
    shards = manifest.facts["shards"]
    assert isinstance(shards, dict)
    named = shards[split]
    assert isinstance(named, dict)
    sizes = [int(str(size)) for size in named.values()]
    reader = ShardReader([folder / name for name in named], sizes)
    total = sum(sizes)
    into = Mapped(
        np.empty((total, 26), dtype=np.int32), np.empty((total, 13), dtype=np.int32), np.empty(total, dtype=np.uint8)
    )
    assert reader.read([RowRange(0, total)], into) == total
    return into


def test_compressed_days_become_the_rows_of_the_text(raw: Path, tmp_path: Path) -> None:
    source = as_published(raw, tmp_path / "gz")

    manifest = prepare.prepare(request(source, tmp_path / "out"))

    texts = [p for day in range(23) for p in sorted(raw.glob(f"day_{day}_*"))]
    expected = parse(b"".join(path.read_bytes() for path in texts), where="text")
    stored = all_rows(tmp_path / "out", manifest, "train")
    assert np.array_equal(stored.labels, expected.labels)
    assert np.array_equal(stored.integers, expected.integers)
    assert np.array_equal(stored.buckets, expected.buckets)
    assert sum(entry.size_bytes for entry in manifest.files.values()) == BYTES_PER_ROW * sum(manifest.counts.values())
    assert not (tmp_path / "out" / "shards.jsonl").exists()


PUBLIC_ROWS = (
    195_841_983, 199_563_535, 196_792_019, 181_115_208, 152_115_810, 172_548_507, 204_846_845, 200_801_003,
    193_772_492, 198_424_372, 185_778_055, 153_588_700, 169_003_364, 194_216_520, 194_081_279, 187_154_596,
    177_984_934, 163_382_602, 142_061_091, 156_534_237, 193_627_464, 192_215_183, 189_747_893, 178_274_637,
)  # fmt: skip
"""Of each day (AlgoPerf specification, section 2.1)."""


def test_the_last_day_is_cut_into_test_and_validation_as_published() -> None:
    records = [
        ShardRecord(
            name=f"day_{day}.{number:03d}.bin",
            source=f"day_{day}.gz",
            day=day,
            num_rows=min(ROWS_PER_SHARD, rows - first),
            entry=FileEntry(size_bytes=1, blake2b=""),
        )
        for day, rows in enumerate(PUBLIC_ROWS)
        for number, first in enumerate(range(0, rows, ROWS_PER_SHARD))
    ]

    splits = split_of_shards(records)

    counts = {split: sum(record.num_rows for record in members) for split, members in splits.items()}
    assert counts == {"train": 4_195_197_692, "test": 95_000_000, "validation": 83_274_637}
    assert {split: len(members) for split, members in splits.items()} == {"train": 849, "test": 19, "validation": 17}
    assert splits["test"][0].name == "day_23.000.bin"
    assert splits["validation"][-1].num_rows == 3_274_637


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_an_interrupted_preparation_continues_to_the_same_bytes(raw: Path, tmp_path: Path, seed: int) -> None:
    source = as_published(raw, tmp_path / "gz")
    whole = prepare.prepare(request(source, tmp_path / "whole"))
    limit = random.Random(seed).randrange(1, 60)

    class PowerCutError(Exception):
        pass

    written = 0
    original = write_shard

    def failing(path: Path, parts: object) -> None:
        nonlocal written
        written += 1
        if written > limit:
            path.with_name(".half.tmp").write_bytes(b"torn")
            raise PowerCutError
        original(path, parts)  # type: ignore[arg-type]  # passed through

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(prepare, "write_shard", failing)
        prepare.prepare(request(source, tmp_path / "cut"))
    assert not (tmp_path / "cut" / "manifest.json").exists()

    continued = prepare.prepare(request(source, tmp_path / "cut"))

    assert continued == whole


def test_a_shard_that_is_no_longer_whole_is_written_again_and_so_are_those_behind_it(raw: Path, tmp_path: Path) -> None:
    source = as_published(raw, tmp_path / "gz")
    whole = prepare.prepare(request(source, tmp_path / "whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Manifest, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(request(source, tmp_path / "cut"))
    (tmp_path / "cut" / "day_0.001.bin").write_bytes(b"torn")

    assert prepare.prepare(request(source, tmp_path / "cut")) == whole


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("day_5.gz", r"day 5 is there twice: day_5.gz, day_5_00|day 5 is there twice: day_5_00, day_5.gz"),
        ("day_5_00.gz", r"day 5 is there twice"),
        ("day_5_02", r"day 5 has 2 pieces, and none is day_5_01"),
    ],
)
def test_a_day_is_there_once_and_whole(raw: Path, tmp_path: Path, name: str, message: str) -> None:
    shutil.copytree(raw, tmp_path / "source")
    (tmp_path / "source" / name).write_bytes(b"rows")

    with pytest.raises(DataError, match=message):
        prepare.prepare(request(tmp_path / "source", tmp_path / "out"))


def damage_line(number: int, change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        lines = path.read_bytes().splitlines()
        lines[number] = b"\t".join(change(lines[number].split(b"\t")))
        path.write_bytes(b"\n".join(lines) + b"\n")

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_line(3, lambda f: f[:-1]), r"day_5_00, line 4: 39 fields instead of 40"),
        (damage_line(3, lambda f: [*f, b"x"]), r"day_5_00, line 4: 41 fields instead of 40"),
        (damage_line(0, lambda f: [b"2", *f[1:]]), r"day_5_00, line 1: field 1 is no label \(0 or 1\): '2'"),
        (damage_line(7, lambda f: [*f[:4], b"1x", *f[5:]]), r"day_5_00, line 8: field 5 is no integer: '1x'"),
        (damage_line(7, lambda f: [*f[:4], b"-", *f[5:]]), r"day_5_00, line 8: field 5 is no integer: '-'"),
        (
            damage_line(9, lambda f: [*f[:20], b"68FD1E64", *f[21:]]),
            r"line 10: field 21 is no token of 8 lower-case hexadecimal digits: '68FD1E64'",
        ),
        (damage_line(9, lambda f: [*f[:20], b"68fd1e6", *f[21:]]), r"line 10: field 21 is no token of 8"),
        (lambda path: path.write_bytes(b""), r"day_5_00: the file is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), r"day_5_00: the last line has no end"),
        (lambda path: path.unlink(), r"1 of 24 days are missing: day_5"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(
    raw: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in raw.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    damage(source / "day_5_00")

    with pytest.raises(DataError, match=message):
        prepare.prepare(request(source, tmp_path / "out"))

    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_truncated_archive_is_named(raw: Path, tmp_path: Path) -> None:
    source = as_published(raw, tmp_path / "gz")
    packed = source / "day_7.gz"
    packed.write_bytes(packed.read_bytes()[:-20])

    with pytest.raises(DataError, match=r"day_7.gz: cannot be unpacked"):
        prepare.prepare(request(source, tmp_path / "out"))


def test_an_archive_with_nothing_in_it_is_named(raw: Path, tmp_path: Path) -> None:
    source = as_published(raw, tmp_path / "gz")
    (source / "day_7.gz").write_bytes(gzip.compress(b""))

    with pytest.raises(DataError, match=r"day_7.gz: nothing is packed in it"):
        prepare.prepare(request(source, tmp_path / "out"))


def test_a_missing_source_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: the source folder does not exist"):
        prepare.prepare(request(tmp_path / "nowhere", tmp_path / "out"))


def test_the_full_data_set_needs_a_source(tmp_path: Path) -> None:
    workload = compose_workload("criteo", scale="full")
    asked = PrepareRequest(workload=workload, destination=tmp_path, source=None, progress=lambda *_: None, options={})

    with pytest.raises(DataError, match=r"needs the public files\n  hint: accept the licence at Criteo AI Lab"):
        prepare.prepare(asked)


def test_verify_names_what_is_missing_truncated_or_short(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    workload = compose_workload("criteo", scale="full")
    with pytest.raises(DataError, match=r"the data is not prepared\n  hint: run `the command`"):
        prepare.verify(workload, folder, prepare_command="the command")
    manifest = prepare.prepare(request(raw, folder))

    with pytest.raises(DataError, match=r"train has 920 examples, the workload needs 4195197692"):
        prepare.verify(workload, folder, prepare_command="the command")

    shard = folder / next(iter(manifest.files))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{shard.name}: truncated data file: .* bytes, the manifest says"):
        prepare.verify(workload, folder, prepare_command="the command")
    shard.write_bytes(content[:-1] + b"\xff")
    with pytest.raises(DataError, match=rf"{shard.name}: data file changed"):
        manifest.verify_digests(folder, prepare_command="the command", progress=lambda *_: None)
    shard.unlink()
    with pytest.raises(DataError, match=rf"{shard.name}: missing data file"):
        prepare.verify(workload, folder, prepare_command="the command")


def test_bucket_counts_are_the_published_ones() -> None:
    assert len(BUCKET_COUNTS) == 26
    assert sum(BUCKET_COUNTS) == 187_767_399
