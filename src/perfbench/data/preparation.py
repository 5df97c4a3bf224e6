"""Preparing data: what ``perfbench data prepare`` asks of a workload family, and the manifest it leaves.

A prepared data set is a folder of binary files with ``manifest.json`` written last: a folder without a manifest is
not prepared. This module imports no torch, so that preparing and verifying start at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pydantic import Field, JsonValue

from perfbench.errors import DataError
from perfbench.results.files import digest_of_file, write_text_atomically
from perfbench.spec.base import Spec
from perfbench.spec.workload import WorkloadSpec

MANIFEST_NAME = "manifest.json"

Progress = Callable[[str, int, int], None]
"""Told ``(what is being done, units done, units in all)``; called often, must be cheap."""


class FileEntry(Spec):
    """One file of a prepared data set."""

    size_bytes: int = Field(ge=0)
    blake2b: str
    """32 hexadecimal digits."""

    def is_whole(self, path: Path) -> bool:
        """Tell whether the file is at ``path``, in full length."""
        return path.exists() and path.stat().st_size == self.size_bytes


class Manifest(Spec):
    """What a prepared data set holds and where it came from."""

    schema_version: int = 1
    family: str
    dataset: str
    format_version: int
    origin: dict[str, JsonValue]
    """Sources with sizes and digests, package versions, converter settings, seeds."""
    counts: dict[str, int]
    """Examples by split (and whatever else must be conserved)."""
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    """Reference levels such as the loss of a constant predictor."""
    files: dict[str, FileEntry]
    """By path relative to the folder."""

    def write(self, folder: Path) -> None:
        """Complete the data set in ``folder``: from now on it counts as prepared."""
        write_text_atomically(folder / MANIFEST_NAME, self.to_json())

    @classmethod
    def read(cls, folder: Path, *, prepare_command: str) -> Manifest:
        """Read the manifest of a prepared data set.

        Raises:
            DataError: If there is none, or it cannot be read.
        """
        path = folder / MANIFEST_NAME
        if not path.exists():
            raise DataError("the data is not prepared", where=str(folder), hint=f"run `{prepare_command}`")
        return cls.from_json(path.read_bytes(), where=str(path), error=DataError)

    @classmethod
    def read_checked(cls, folder: Path, *, format_version: int, prepare_command: str) -> Manifest:
        """Read the manifest and check that the data has the format that this program reads, and no file is missing.

        Raises:
            DataError: If there is none, the format is another one, or a file is missing or truncated.
        """
        manifest = cls.read(folder, prepare_command=prepare_command)
        if manifest.format_version != format_version:
            raise DataError(
                f"format version {manifest.format_version}, this program reads {format_version}",
                where=str(folder),
                hint=_again(folder, prepare_command),
            )
        manifest.verify_sizes(folder, prepare_command=prepare_command)
        return manifest

    def verify_sizes(self, folder: Path, *, prepare_command: str) -> None:
        """Check that every file is there in full length: cheap enough to do before every run.

        Raises:
            DataError: Naming the first missing or truncated file.
        """
        for name, entry in self.files.items():
            path = folder / name
            if not path.exists():
                raise DataError("missing data file", where=str(path), hint=_again(folder, prepare_command))
            size_bytes = path.stat().st_size
            if size_bytes != entry.size_bytes:
                raise DataError(
                    f"{'truncated' if size_bytes < entry.size_bytes else 'overlong'} data file: "
                    f"{size_bytes} bytes, the manifest says {entry.size_bytes}",
                    where=str(path),
                    hint=_again(folder, prepare_command),
                )

    def verify_digests(self, folder: Path, *, prepare_command: str, progress: Progress) -> None:
        """Check every byte (``perfbench data verify``).

        Raises:
            DataError: Naming the first file that differs.
        """
        self.verify_sizes(folder, prepare_command=prepare_command)
        for number, (name, entry) in enumerate(self.files.items(), start=1):
            progress("verifying", number, len(self.files))
            if digest_of_file(folder / name) != entry.blake2b:
                raise DataError(
                    "data file changed: its digest is not the manifest's",
                    where=str(folder / name),
                    hint=_again(folder, prepare_command),
                )


def _again(folder: Path, prepare_command: str) -> str:
    """Return what to do about damaged data: whatever has a manifest counts as prepared and is not mended."""
    return f"delete {folder} and run `{prepare_command}`"


def entry_for(path: Path) -> FileEntry:
    """Describe a finished file."""
    return FileEntry(size_bytes=path.stat().st_size, blake2b=digest_of_file(path))


def require_counts(
    counts: Mapping[str, int], expected: Iterable[tuple[str, int]], *, unit: str, where: str, hint: str
) -> None:
    """Check that every split has as many examples as the workload needs.

    Raises:
        DataError: Naming the first split that has not.
    """
    for split, needed in expected:
        if counts.get(split) != needed:
            raise DataError(
                f"{split} has {counts.get(split)} {unit}, the workload needs {needed}", where=where, hint=hint
            )


@dataclass(frozen=True, slots=True)
class Generated:
    """What a small data set tells about itself."""

    origin: dict[str, JsonValue]
    facts: dict[str, JsonValue]


class Generator(Protocol):
    """A module that writes a small data set in the form of the public files, from a package or from nothing."""

    NAME: str
    REQUIRED_BYTES: int

    def write_raw(self, folder: Path, progress: Progress) -> Generated:
        """Write the files into ``folder``."""
        ...


Small = TypeVar("Small")


def small_data(known: Mapping[str, Small], workload: WorkloadSpec, *, hint: str) -> Small:
    """Return what writes the workload's data set, where that needs no public files.

    Raises:
        DataError: If it does need them; the hint says how to get them.
    """
    found = known.get(workload.dataset)
    if found is None:
        raise DataError("needs the public files", where=f"data set {workload.dataset}", hint=hint)
    return found


def require_source_folder(source: Path) -> None:
    """Check that the folder of the public files exists.

    Raises:
        DataError: If it does not.
    """
    if not source.is_dir():
        raise DataError("the source folder does not exist", where=str(source), hint="give --source DIR")


@contextmanager
def passing_folder(folder: Path) -> Iterator[Path]:
    """Make an empty folder that is removed at the end; what an interrupted call left there is removed first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def data_folder(data_root: Path, workload: WorkloadSpec) -> Path:
    """Return where a workload's prepared data is: variants share their family's, and families may share one."""
    return data_root / (workload.data_family or workload.family) / workload.scale.value / workload.dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareRequest:
    """What to prepare, from where to where."""

    workload: WorkloadSpec
    destination: Path
    source: Path | None
    """Folder of the public files; ``None`` for data sets that come with an installed package or a generator."""
    progress: Progress
    options: Mapping[str, JsonValue]


class Preparer(Protocol):
    """The module ``perfbench.workloads.<family>.prepare`` has these functions."""

    def required_bytes(self, request: PrepareRequest) -> int:
        """Return how much disk preparing needs at most, shown and checked before anything is written."""
        ...

    def prepare(self, request: PrepareRequest) -> Manifest:
        """Write the data set, resuming what an interrupted call left; the manifest last.

        Raises:
            DataError: If the source is missing, truncated or malformed; names file and line.
        """
        ...

    def verify(self, workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
        """Check quickly that the folder holds what ``workload`` needs (sizes, counts, format, parameters).

        Raises:
            DataError: Naming what is missing or differs.
        """
        ...


Params = TypeVar("Params", bound=Spec)
Params_contra = TypeVar("Params_contra", bound=Spec, contravariant=True)


class SharedData(Protocol[Params_contra]):
    """A module that prepares data for several families, given the parameters that they have in common."""

    def required_bytes(self, request: PrepareRequest, params: Params_contra) -> int:
        """Return how much disk preparing needs at most."""
        ...

    def prepare(self, request: PrepareRequest, params: Params_contra) -> Manifest:
        """Write the data set."""
        ...

    def verify(self, params: Params_contra, folder: Path, *, prepare_command: str) -> Manifest:
        """Check that the folder holds what the parameters say."""
        ...


class FamilyPreparer(Generic[Params]):
    """A :class:`Preparer` of a family that shares its data with others.

    Args:
        params_type: The family's parameters: a wrong one is refused before anything is read.
        data: Does the work.
    """

    def __init__(self, params_type: type[Params], data: SharedData[Params]) -> None:
        self._params_type = params_type
        self._data = data

    def required_bytes(self, request: PrepareRequest) -> int:
        """Return how much disk preparing needs at most."""
        return self._data.required_bytes(request, self._params(request.workload))

    def prepare(self, request: PrepareRequest) -> Manifest:
        """Write the data set; its errors are those of the data's module."""
        return self._data.prepare(request, self._params(request.workload))

    def verify(self, workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
        """Check quickly that the folder holds what ``workload`` needs."""
        return self._data.verify(self._params(workload), folder, prepare_command=prepare_command)

    def _params(self, workload: WorkloadSpec) -> Params:
        return self._params_type.from_mapping(workload.params, where="workload.params")
