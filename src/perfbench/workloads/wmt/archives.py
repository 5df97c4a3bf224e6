"""The public archives as they are distributed: what is needed of them is unpacked once, beside the prepared data.

The text is read several times (twice for the vocabulary, once for each side), so that reading it out of gzip each
time would cost more than the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from perfbench.data.preparation import Progress
from perfbench.data.source_files import files_in_tar, is_there, reading, size_of
from perfbench.errors import DataError
from perfbench.results.files import atomic_file
from perfbench.workloads.wmt.corpora import CORPORA, Corpus

_BLOCK_BYTES = 1 << 22
_DAMAGED = "fetch the archive again"
_UNPACKED_PER_PACKED = 4
"""Bytes of text per byte of an archive, at most: 2.5 to 3.5 is usual for such text."""


def required_bytes(source: Path) -> int:
    """Return how much disk the prepared form needs at most, unpacked files included.

    Raises:
        DataError: Naming every file that is neither in ``source`` nor in an archive there.
    """
    packed, plain = _needed(source)
    plain_bytes = sum(size_of(source / name) for name in plain)
    packed_bytes = sum(size_of(source / archive) for archive in packed)
    return plain_bytes + 2 * _UNPACKED_PER_PACKED * packed_bytes


def unpacked(source: Path, folder: Path, progress: Progress) -> dict[str, Path]:
    """Return the folder that holds each corpus' files, by corpus; unpack into ``folder`` what ``source`` has packed.

    Raises:
        DataError: If a file is missing, or an archive is damaged or lacks it.
    """
    packed, plain = _needed(source)
    for number, (archive, names) in enumerate(packed.items()):
        progress("unpacking", number, len(packed))
        if waiting := {name for name in names if not (folder / name).exists()}:
            _unpack(source / archive, waiting, folder)
    progress("unpacking", len(packed), len(packed))
    return {corpus.name: source if set(_names(corpus)) <= plain else folder for corpus in CORPORA}


def _needed(source: Path) -> tuple[Mapping[str, list[str]], set[str]]:
    """Return which files come out of which archive, and which are there already.

    Raises:
        DataError: Naming every file that is nowhere.
    """
    packed: dict[str, list[str]] = {}
    plain: set[str] = set()
    missing: list[str] = []
    for corpus in CORPORA:
        names = _names(corpus)
        if all(is_there(source / name) for name in names):
            plain |= set(names)
        elif is_there(source / corpus.archive):
            packed.setdefault(corpus.archive, []).extend(names)
        else:
            missing += [name for name in names if not is_there(source / name)]
    if missing:
        raise DataError(
            f"{len(missing)} of {2 * len(CORPORA)} files are missing: {', '.join(missing)}",
            where=str(source),
            hint="fetch the archives that the workload's README lists into this folder; they may be unpacked there",
        )
    return packed, plain


def _names(corpus: Corpus) -> tuple[str, str]:
    return corpus.german, corpus.english


def _unpack(archive: Path, names: Iterable[str], folder: Path) -> None:
    """Write the named members below ``folder``, each whole or not at all; the archive is read once."""
    waiting = set(names)
    for member, content in files_in_tar(archive, hint=_DAMAGED):
        name = member.name.removeprefix("./")
        if name in waiting:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(folder / name) as target:
                while block := _block(content, archive):
                    target.write(block)
            waiting.discard(name)
        if not waiting:
            return
    raise DataError(
        f"does not hold {', '.join(sorted(waiting))}",
        where=str(archive),
        hint="it is another archive, or fetch it again: the workload's README lists what each one has",
    )


def _block(content: IO[bytes], archive: Path) -> bytes:
    """Read on; what fails while writing is the disk's fault, not the archive's."""
    with reading(archive, hint=_DAMAGED):
        return content.read(_BLOCK_BYTES)
