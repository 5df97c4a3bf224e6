"""Data files that an installed package brings, known by their SHA-256: counts and targets hold for these bytes only.

They are found where the package puts them, never shipped or fetched. Only the files are read: no module of a package is
imported. This module imports no torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import JsonValue

from perfbench.data.preparation import PrepareRequest, small_data
from perfbench.errors import DataError

INSTALL = "apt-get install --no-install-recommends"
SYSTEM_ROOT = Path("/")
"""Below which Debian unpacks its packages."""


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """Data files of a Debian package.

    Invariant: ``sha256`` has the digests of the files that the counts and targets were measured with.
    """

    name: str
    version: str
    """Whose files have these digests."""
    folder: str
    """Where the package puts the files, relative to the root."""
    sha256: Mapping[str, str]
    """By file name."""

    def find(self, unpacked: Path | None, *, dataset: str) -> Path:
        """Return the folder that holds the files; reads nothing.

        Args:
            unpacked: Where somebody without root unpacked the package, or the folder of the files itself; ``None``:
                it is installed.
            dataset: That is made from the files; for the error.

        Raises:
            DataError: If one is missing: says how to install the package.
        """
        nested = (SYSTEM_ROOT if unpacked is None else unpacked) / self.folder
        for folder in (nested,) if unpacked is None else (nested, unpacked):
            if all((folder / name).is_file() for name in self.sha256):
                return folder
        missing = next(name for name in self.sha256 if not (nested / name).is_file())
        raise DataError(
            f"is made from the Debian package {self.name}, which is not there: no {nested / missing}",
            where=f"data set {dataset}",
            hint=f"run `apt-get install {self.name}` as root; or, without root, `apt-get download {self.name}`, "
            f"`dpkg -x {self.name}_*.deb DIR`, and `perfbench data prepare WORKLOAD --dataset {dataset} --source DIR`",
        )

    def checked(self, unpacked: Path | None, *, dataset: str) -> Path:
        """Return the folder that holds the files, after reading every byte of them.

        Raises:
            DataError: If one is missing, or another one.
        """
        folder = self.find(unpacked, dataset=dataset)
        for name, expected in self.sha256.items():
            check_sha256(folder / name, expected, hint=f"not the file of {self.name} {self.version}: install that one")
        return folder

    def origin(self) -> dict[str, JsonValue]:
        """Return what a manifest says about the source."""
        return {"package": self.name, "version": self.version, "sha256": dict(self.sha256)}


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedFiles:
    """Many files of a Debian package, or one, known by one digest."""

    package: str
    version: str
    """The one whose digest this is."""
    sha256: str
    """Of the contents one after the other, in the order of their paths."""

    def read(self, paths: Iterable[Path], *, where: Path) -> dict[Path, bytes]:
        """Return the content of every file, in the order of their paths.

        Args:
            paths: All files.
            where: What to name if the contents are others.

        Raises:
            DataError: If a file cannot be read, or the contents are others.
        """
        contents: dict[Path, bytes] = {}
        digest = hashlib.sha256()
        for path in sorted(paths):
            try:
                contents[path] = path.read_bytes()
            except OSError as problem:
                raise DataError(
                    f"cannot be read: {problem.strerror}", where=str(path), hint=f"{INSTALL} --reinstall {self.package}"
                ) from None
            digest.update(contents[path])
        if digest.hexdigest() != self.sha256:
            raise DataError(
                f"not as in {self.package} {self.version}: sha256 {digest.hexdigest()[:12]}, {self.sha256[:12]} needed",
                where=str(where),
                hint=f"install {self.package}={self.version}, unchanged",
            )
        return contents

    def origin(self) -> dict[str, JsonValue]:
        """Return what the manifest says of them."""
        return {"package": self.package, "version": self.version, "sha256": self.sha256}


class MadeFromPackage(Protocol):
    """A small data set that may be made from a Debian package."""

    @property
    def package(self) -> DebianPackage | None:
        """That must be there; ``source`` of a request says where it is unpacked."""
        ...


Small = TypeVar("Small", bound=MadeFromPackage)


def asked_for(known: Mapping[str, Small], request: PrepareRequest, *, hint: str) -> Small | None:
    """Return the small data set that is asked for; ``None`` if the source holds the public files.

    Raises:
        DataError: If there is neither; the hint says how to get the public files.
    """
    if request.source is None:
        return small_data(known, request.workload, hint=hint)
    chosen = known.get(request.workload.dataset)
    return chosen if chosen is not None and chosen.package is not None else None


def python_package_file(*, package: str, module: str, file: str, sha256: str) -> Path:
    """Return a data file of an installed Python package, checked.

    Raises:
        DataError: If the package is not installed, or its file is another one.
    """
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise DataError(f"needs the package {package!r}", where="small data", hint="run `make setup`")
    path = Path(next(iter(found.submodule_search_locations))) / file
    check_sha256(
        path, sha256, hint="another version of the package: install the one that constraints.txt or set-up names"
    )
    return path


def check_sha256(path: Path, expected: str, *, hint: str) -> None:
    """Compare a file with the one that is known.

    Raises:
        DataError: If it differs.
    """
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise DataError(f"sha256 {actual}, expected {expected}", where=str(path), hint=hint)


def not_installed(
    packages: Sequence[str], *, dataset: str, instead: str, wheels: Sequence[str] = (), note: str = ""
) -> DataError:
    """Return the error that says all that is to be installed.

    Args:
        packages: Debian's, that are missing.
        dataset: Which is made from them.
        instead: A data set that needs none.
        wheels: Python packages that are missing, as pip is told.
        note: For those who installed them and still see this.
    """
    names = [f"Debian's {name}" for name in packages] + [f"the wheel {wheel}" for wheel in wheels]
    commands = [f"as root: {INSTALL} {' '.join(packages)}"] if packages else []
    commands += [f"pip install {' '.join(wheels)}"] if wheels else []
    verb, object_ = ("is", "it") if len(names) == 1 else ("are", "them")
    return DataError(
        f"{' and '.join(names)} {verb} not installed: the data set is made from {object_}",
        where=f"data set {dataset}",
        hint="; ".join([*commands, f"or use data={instead}", *([note] if note else [])]),
    )
