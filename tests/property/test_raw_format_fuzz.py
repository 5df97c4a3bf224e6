"""Damaged sources of every raw format end in prepared data or in one error that names what is wrong; nothing else.

``PERFBENCH_FUZZ=5000 pytest tests/property/test_raw_format_fuzz.py`` tries as many inputs of each format.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import signal
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import h5py
import numpy as np
import pytest

from perfbench.errors import PerfbenchError
from tests.raw_sources import RAW_SOURCES

_NUM_INPUTS = int(os.environ.get("PERFBENCH_FUZZ", "25"))
_LONGEST_S = 60
_TEXTS = (b"", b"\0", b"\xff\xfe", b"nan", b"-1", b"9" * 40, b'<seg id="1">', b"\t" * 50, b",,,", "é٣".encode())


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Give a folder in memory where there is one: thousands of sources are made and removed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@contextmanager
def _ends_in_time() -> Iterator[None]:
    def hangs(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise AssertionError(f"still at work after {_LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(_LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _flipped(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.randrange(1, 8)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(bytes(content))


def _truncated(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) + 1)])


def _lengthened(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.choice([b"\n", b"x", path.read_bytes(), bytes(600)]))


def _flipped_within(path: Path, chance: random.Random) -> None:
    """Damage what is packed, not the packing."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    for _ in range(chance.randrange(1, 4)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(gzip.compress(bytes(content), 1))


def _other_text(path: Path, chance: random.Random) -> None:
    """Put something odd in the place of a few bytes, packed or not."""
    content = path.read_bytes()
    is_packed = content.startswith(b"\x1f\x8b")
    content = gzip.decompress(content) if is_packed else content
    start = chance.randrange(len(content))
    content = content[:start] + chance.choice(_TEXTS) + content[start + chance.randrange(6) :]
    path.write_bytes(gzip.compress(content, 1) if is_packed else content)


def _other_members(path: Path, chance: random.Random) -> None:
    """Rename, repeat, remove or change the kind of an archive's members."""
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive if member.isreg()]  # type: ignore[union-attr]
    packing = chance.choice(["w", "w:gz", "w:xz", "w:bz2"])
    chosen = chance.randrange(len(members))
    with tarfile.open(path, packing) as archive:  # type: ignore[call-overload]  # the mode is one of tarfile's
        for number, (member, content) in enumerate(members):
            times = 1
            if number == chosen:
                times = chance.choice([0, 1, 2])
                member.name = chance.choice(
                    [member.name, "../../escaped", member.name + "x", "._" + member.name, "a/7"]
                )
                member.type = chance.choice([tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE])
                member.linkname = "/etc/passwd"
            for _ in range(times):
                archive.addfile(member, io.BytesIO(content))


def _other_types(path: Path, chance: random.Random) -> None:
    """Give a volume's file another attribute, shape or type."""
    with h5py.File(path, "a") as file:
        name = chance.choice(["kspace", "reconstruction_esc"])
        match chance.randrange(5):
            case 0:
                del file.attrs["max"]
                file.attrs["max"] = chance.choice([np.zeros(1), np.zeros((2, 1)), "x", np.nan, -1, b"", np.zeros(0)])
            case 1:
                values = file[name][()]
                del file[name]
                file[name] = chance.choice([values[0], values.astype("i4"), values[:0], values * np.nan, "text", 1.0])
            case 2:
                del file[name]
                file.create_group(name)
            case 3:
                del file[name]
                file[name] = h5py.SoftLink("/nowhere")
            case _:
                del file[name]
                file[name] = h5py.ExternalLink("/dev/zero", "/x")


def _renamed(path: Path, chance: random.Random) -> None:
    other = chance.choice(["._" + path.name, path.name + ".gz", path.stem, "day_7", "1-1-0000.flac", "\udcff", "x.h5"])
    if not path.with_name(other).exists():
        path.rename(path.with_name(other))


def _replaced(path: Path, chance: random.Random) -> None:
    """Put a link, a folder, a pipe or another file in its place."""
    sibling = chance.choice(sorted(path.parent.iterdir()))
    content = path.read_bytes()
    path.unlink()
    match chance.randrange(5):
        case 0:
            path.symlink_to(chance.choice(["nowhere", path.name, "..", "/dev/zero", "/dev/null"]))
        case 1:
            path.mkdir()
        case 2:
            os.mkfifo(path)
        case 3 if sibling.is_file():
            shutil.copyfile(sibling, path)
        case _:
            path.write_bytes(chance.choice([b"", b"<html>", content[::-1]]))


def _looped(path: Path, chance: random.Random) -> None:
    (path.parent / "loop").symlink_to(path.parents[chance.randrange(2)])


_MUTATIONS: tuple[Callable[[Path, random.Random], None], ...] = (
    _flipped,
    _truncated,
    _lengthened,
    _flipped_within,
    _other_text,
    _other_members,
    _other_types,
    _renamed,
    _replaced,
    _looped,
)


def _damage(source: Path, chance: random.Random) -> str:
    """Damage a file or two; a change that does not fit the kind of file is left out."""
    done: list[str] = []
    while not done:
        files = sorted(path for path in source.rglob("*") if path.is_file())
        for path in chance.sample(files, min(len(files), chance.choice([1, 1, 2]))):
            mutation = chance.choice(_MUTATIONS)
            try:
                mutation(path, chance)
            except (OSError, EOFError, ValueError, KeyError, IndexError, tarfile.TarError):
                continue
            done.append(f"{mutation.__name__} {path.relative_to(source)}")
    return "; ".join(done)


@pytest.mark.parametrize("name", RAW_SOURCES)
def test_a_damaged_source_ends_in_data_or_in_an_error_that_names_it(scratch: Path, name: str) -> None:
    raw = RAW_SOURCES[name]
    pristine = scratch / "pristine"
    pristine.mkdir()
    raw.write(pristine)
    num_prepared = 0
    for number in range(_NUM_INPUTS):
        source, destination = scratch / f"source_{number}", scratch / f"out_{number}"
        shutil.copytree(pristine, source)
        damage = _damage(source, random.Random(f"{name} {number}"))
        try:
            with _ends_in_time():
                raw.prepare(source, destination)
            num_prepared += 1
        except PerfbenchError as error:
            assert str(scratch) in str(error) or error.hint, f"input {number}: {damage}: {error}"  # noqa: PT017
        except Exception as error:
            raise AssertionError(f"input {number}: {damage}") from error
        shutil.rmtree(source)
        shutil.rmtree(destination, ignore_errors=True)
    assert num_prepared < _NUM_INPUTS, "nothing was found wrong with any of them"
