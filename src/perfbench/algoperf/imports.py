"""What a submission's folder imports, found in its text: its own files under whatever names, packages, what is missing.

Authors import their own files under the path that these had in some repository (``submissions.self_tuning.mine.muon``)
or as if a sub-folder were on the search path (``optimizers.matrix``). Rule: of a dotted name that nothing installed
has, the longest tail that is a file or package below the folder is meant.
"""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PRESENTED = ("algoperf", "algorithmic_efficiency")
"""Packages of theirs that we stand in for."""
OFFERED = ("spec", "pytorch_utils")
"""What of these packages there is."""
_ALWAYS_THERE = frozenset({"torch", "numpy", "absl"})
_FEWEST_PARTS_BEFORE_A_NAME = 2
"""``from somewhere import adam`` means a package's function, ``from a.b.mine import adam`` may mean a file."""


@dataclass(frozen=True)
class Imports:
    """What the files that an entry imports import in turn."""

    used: tuple[Path, ...]
    """Files of the folder, the entry first."""
    spelled: dict[str, Path]
    """Files and packages of the folder by the absolute names that they are imported under."""
    packages: tuple[str, ...]
    """Installed modules from elsewhere, beyond Python's own, torch and numpy."""
    missing: tuple[str, ...]
    """Modules that are nowhere to be found."""


def read_imports(root: Path, entry: Path, trees: dict[Path, ast.Module], *, others: Iterable[Path] = ()) -> Imports:
    """Follow the imports of a file through a folder.

    Args:
        root: The folder.
        entry: Where to begin.
        trees: The syntax of the folder's files.
        others: Files of it that cannot be read: what they import is unknown, but they are what is imported.
    """
    index = _index(root, (*trees, *others))
    spelled: dict[str, Path] = {}
    elsewhere: dict[str, None] = {}
    waiting, used = [entry], dict.fromkeys([entry])
    while waiting:
        file = waiting.pop(0)
        for name, is_certain in _absolute_names(trees[file]):
            found = _own(name, index, is_certain=is_certain)
            if found is None:
                if is_certain:
                    elsewhere[name] = None
                continue
            spelled[name] = found
            waiting += _added(used, _files_of(found, trees))
        waiting += _added(used, _relative_files(file, trees[file], trees))
    above = {name[:end] for name in spelled for end, letter in enumerate(name) if letter == "."}
    foreign = [name for name in elsewhere if not _is_python_s_own(name) and name not in above]
    is_there = {name: _is_there(name) for name in foreign}
    return Imports(
        used=tuple(used),
        spelled=spelled,
        packages=tuple(sorted({name for name, found in is_there.items() if found and not _is_loaded_anyway(name)})),
        missing=tuple(sorted({name for name, found in is_there.items() if not found})),
    )


def is_installed(name: str) -> bool:
    """Tell whether a module could be imported from what is installed; imports nothing."""
    first, *rest = name.split(".")
    if first in sys.builtin_module_names:
        return True
    spec = importlib.machinery.PathFinder.find_spec(first)
    if spec is None:
        return False
    folders = list(spec.submodule_search_locations or ())
    for part in rest:
        below = importlib.machinery.PathFinder.find_spec(part, folders) if folders else None
        if below is None:
            return False
        folders = list(below.submodule_search_locations or ())
    return True


def _is_there(name: str) -> bool:
    if _is_presented(name):
        _, *rest = name.split(".")
        return not rest or rest[0] in OFFERED
    return is_installed(name) or name in ("absl", "absl.logging")  # stood in for where it is not installed


def _is_loaded_anyway(name: str) -> bool:
    return _is_presented(name) or name.partition(".")[0] in ("torch", "numpy")


def _is_presented(name: str) -> bool:
    return name.partition(".")[0] in PRESENTED


def _is_python_s_own(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _index(root: Path, trees: Iterable[Path]) -> dict[tuple[str, ...], Path]:
    """Return files, and folders that hold files, by their parts below the root; what is nearest to it comes first."""
    found: dict[tuple[str, ...], Path] = {}
    for file in trees:
        parts = file.relative_to(root).with_suffix("").parts
        if parts[-1] != "__init__":
            found[parts] = file
        for length in range(1, len(parts)):
            found.setdefault(parts[:length], root.joinpath(*parts[:length]))
    return dict(sorted(found.items(), key=lambda item: (len(item[0]), item[0])))


def _absolute_names(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield dotted names that are imported, and whether each is a module for certain."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((f"{node.module}.{alias.name}", False) for alias in node.names)
            yield node.module, True


def _own(name: str, index: dict[tuple[str, ...], Path], *, is_certain: bool) -> Path | None:
    parts = tuple(name.split("."))
    if parts[0] in _ALWAYS_THERE or parts[0] in PRESENTED or _is_python_s_own(name):
        return None
    for start in range(len(parts)):
        if not is_certain and 0 < start < _FEWEST_PARTS_BEFORE_A_NAME:
            continue
        tail = parts[start:]
        found = next((path for known, path in index.items() if known[-len(tail) :] == tail), None)
        if found is not None:
            place = name if is_certain else name.rpartition(".")[0]
            return None if len(parts) > 1 and is_installed(place) else found
    return None


def _files_of(path: Path, trees: dict[Path, ast.Module]) -> list[Path]:
    file = path / "__init__.py" if path.is_dir() else path
    return [file] if file in trees else []


def _relative_files(file: Path, tree: ast.Module, trees: dict[Path, ast.Module]) -> Iterator[Path]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.ImportFrom) and node.level):
            continue
        base = file.parent
        for _ in range(node.level - 1):
            base = base.parent
        base = base.joinpath(*(node.module or "").split(".")) if node.module else base
        for place in (base, *(base / alias.name for alias in node.names)):
            yield from (one for one in (place.with_suffix(".py"), place / "__init__.py") if one in trees)


def _added(used: dict[Path, None], files: Iterable[Path]) -> list[Path]:
    new = [file for file in files if file not in used]
    used.update(dict.fromkeys(new))
    return new
