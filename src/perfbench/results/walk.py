"""Walks folders of results: links are followed, loops and overlapping paths are not walked twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from perfbench.errors import ResultsError
from perfbench.results.trials import Complaint

_MOST_LEVELS = 50
"""Below a given path. Results lie four to six levels deep."""


def walk(paths: Sequence[Path], complaints: list[Complaint]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield every folder at or below the paths with the names of its folders and files, sorted.

    Removing names from the list of folders keeps the walk out of them.

    Raises:
        ResultsError: If one of the paths does not exist.
    """
    for path in paths:
        if not path.exists():
            raise ResultsError("there is no such file or folder", where=str(path), hint="`perfbench run` makes one")

    def complain(problem: OSError) -> None:
        complaints.append(Complaint(Path(problem.filename), f"cannot be read: {problem.strerror or problem}"))

    visited: set[tuple[int, int]] = set()
    for path in paths:
        start = path.parent if path.is_file() else path
        deepest = os.fspath(start).rstrip(os.sep).count(os.sep) + _MOST_LEVELS
        for name, folders, files in os.walk(start, followlinks=True, onerror=complain):
            try:
                status = os.stat(name)  # noqa: PTH116 - of 100,000 folders: no Path before it is needed
            except OSError as problem:  # removed meanwhile
                complain(problem)
                folders.clear()
                continue
            if (status.st_dev, status.st_ino) in visited:
                folders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            if folders and name.count(os.sep) >= deepest:
                complaints.append(Complaint(Path(name), f"{_MOST_LEVELS} levels deep: nothing below was looked at"))
                folders.clear()
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            yield Path(name), folders, sorted(files)
