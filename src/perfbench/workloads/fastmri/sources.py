"""Where the public files are: two folders of HDF5 files, or the two archives as distributed, read without unpacking."""

from __future__ import annotations

import io
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from perfbench.data.preparation import require_source_folder
from perfbench.data.source_files import files_in_tar, is_clutter, is_there, reading, size_of
from perfbench.errors import DataError

Part = Literal["train", "val"]
PARTS: tuple[Part, ...] = ("train", "val")
"""The published test part has no targets and is never read."""

_FOLDERS = "singlecoil_{part}", "knee_singlecoil_{part}"
_ARCHIVES = "knee_singlecoil_{part}.tar.xz", "knee_singlecoil_{part}.tar.gz", "knee_singlecoil_{part}.tar"
_SUFFIX = ".h5"


class RawFile(NamedTuple):
    """One volume's file."""

    name: str
    """Without the suffix; volumes are ordered by it."""
    content: Path | io.BytesIO
    where: str
    """For errors: path, or archive and member."""


class Source(NamedTuple):
    """One part of the public data."""

    part: Part
    path: Path
    num_files: int | None
    """``None`` for an archive, which is not read through to count them."""

    def size_bytes(self) -> int:
        """Return what the part occupies now."""
        if self.path.is_dir():
            return sum(size_of(file) for file in _files(self.path))
        return size_of(self.path)

    def volumes(self, *, without: Container[str]) -> Iterator[RawFile]:
        """Yield the part's files, in storage order, but for the names in ``without``.

        Raises:
            DataError: If an archive is damaged.
        """
        if self.path.is_dir():
            files = [file for file in _files(self.path) if file.stem not in without]
            yield from (RawFile(file.stem, file, str(file)) for file in files)
            return
        yield from _members(self.path, without)


def find_sources(folder: Path) -> list[Source]:
    """Find both parts.

    Raises:
        DataError: If one is missing or empty.
    """
    require_source_folder(folder)
    return [_find(folder, part) for part in PARTS]


def _find(folder: Path, part: Part) -> Source:
    names = [name.format(part=part) for name in (*_FOLDERS, *_ARCHIVES)]
    for path in (folder / name for name in names):
        if path.is_dir():
            files = _files(path)
            if not files:
                raise DataError("the folder has no *.h5 file", where=str(path), hint="unpack the archive again")
            return Source(part, path, len(files))
        if is_there(path):
            if size_of(path) == 0:
                raise DataError("the file is empty", where=str(path), hint="fetch it again")
            return Source(part, path, None)
    raise DataError(
        f"the {part} part is missing",
        where=str(folder),
        hint=f"the folder needs one of {', '.join(names)}",
    )


def _files(folder: Path) -> list[Path]:
    with reading(folder):
        return sorted(path for path in folder.iterdir() if path.suffix == _SUFFIX and not is_clutter(path.name))


def _members(archive: Path, without: Container[str]) -> Iterator[RawFile]:
    seen: dict[str, str] = {}
    for member, packed in files_in_tar(archive):
        path = Path(member.name)
        if path.suffix != _SUFFIX or any(map(is_clutter, path.parts[-2:])):
            continue
        if path.name in seen:
            raise DataError(
                f"holds {path.name} twice: as {seen[path.name]} and as {member.name}",
                where=str(archive),
                hint="unpack it, keep the right one, and give the folder",
            )
        seen[path.name] = member.name
        if path.stem not in without:
            with reading(archive):
                content = packed.read()
            yield RawFile(path.stem, io.BytesIO(content), f"{archive}, {member.name}")
