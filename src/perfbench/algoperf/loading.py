"""Importing a folder of theirs, with what it imports presented to it; only this process's table of modules is touched.

Every file of the folder is one module, whatever names it is imported under: otherwise an ``isinstance`` would fail
between a class and its double. Names are presented exactly and one by one, so nobody else's packages are shadowed.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
import types
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path

import torch
import torch.distributed.nn

from perfbench.algoperf import spec_names
from perfbench.algoperf.folder import Folder
from perfbench.algoperf.imports import PRESENTED, is_installed

_ABSL_LOGGER = ("debug", "info", "warning", "error", "exception")


def load(folder: Folder) -> types.ModuleType:
    """Import a folder's submission and return its module; a folder that was imported before is not imported again."""
    for name, module in _stand_ins().items():
        sys.modules.setdefault(name, module)
    # Each call of the differentiable sum warns on torch 2.14: a line per step in the log of every rank.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.distributed.nn.*")
    root = root_name(folder.path)
    for earlier in [finder for finder in sys.meta_path if isinstance(finder, _OwnNames) and finder.root != root]:
        earlier.forget()
    if not any(isinstance(finder, _OwnNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OwnNames(root, folder))
    _package(root, folder.path)
    return importlib.import_module(_canonical(root, folder.path, folder.entry))


def root_name(path: Path) -> str:
    """Return the package that a folder's modules are in, in this process: another one for every folder."""
    plain = "".join(letter if letter.isalnum() else "_" for letter in path.name)
    return f"_algoperf_{plain}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"


def modules_of(path: Path) -> list[types.ModuleType]:
    """Return the modules of a folder that have been imported."""
    root = root_name(path)
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(f"{root}.")]


def pytorch_setup() -> tuple[bool, int, torch.device, int]:
    """Return what their function of that name does: several ranks, local rank, device, number of ranks.

    One rank is one that needs no process group, whatever the environment says besides.
    """
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if not torch.cuda.is_available():
        return num_ranks > 1, local_rank, torch.device("cpu"), num_ranks
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    return num_ranks > 1, local_rank, device, num_ranks


class _OwnNames(MetaPathFinder):
    """Finds a folder's files under the names by which they are imported, and the empty packages above these."""

    def __init__(self, root: str, folder: Folder) -> None:
        self.root = root
        self._canonical = {name: _canonical(root, folder.path, path) for name, path in folder.imports.spelled.items()}
        above = {name[:end] for name in self._canonical for end, letter in enumerate(name) if letter == "."}
        self._empty = {name for name in above - self._canonical.keys() if not is_installed(name)}

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is to be had if it is one of these names."""
        if fullname in self._canonical:
            return importlib.machinery.ModuleSpec(fullname, _SameModule(self._canonical[fullname]), is_package=True)
        if fullname in self._empty:
            return importlib.machinery.ModuleSpec(fullname, _Empty(), is_package=True)
        return None

    def forget(self) -> None:
        """Present nothing more, and take back what was."""
        sys.meta_path.remove(self)
        for name in (*self._canonical, *self._empty):
            sys.modules.pop(name, None)


class _SameModule(Loader):
    """Gives a module that has another name already."""

    def __init__(self, canonical: str) -> None:
        self._canonical = canonical
        self._spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, _spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Import the module under its first name."""
        module = importlib.import_module(self._canonical)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: it was run under its first name. Its description stays that one's."""
        module.__spec__ = self._spec


class _Empty(Loader):
    """A package above the folder's files: there is nothing in it."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing."""


def _canonical(root: str, folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts if path.suffix == ".py" else path.relative_to(folder).parts
    return ".".join((root, *parts))


def _package(root: str, path: Path) -> None:
    """Make the folder a package, and run its ``__init__.py`` if it has one."""
    if root in sys.modules:
        return
    file = path / "__init__.py"
    if file.is_file():
        spec = importlib.util.spec_from_file_location(root, file, submodule_search_locations=[str(path)])
        assert spec is not None, "a file of Python has a loader"
        assert spec.loader is not None, "a file of Python has a loader"
        package = importlib.util.module_from_spec(spec)
        sys.modules[root] = package
        try:
            spec.loader.exec_module(package)
        except BaseException:
            del sys.modules[root]
            raise
        return
    package = types.ModuleType(root)
    package.__path__ = [str(path)]
    sys.modules[root] = package


def _stand_ins() -> dict[str, types.ModuleType]:
    """Return the modules that are presented, by name: the same ones under both names of their package."""
    setup = _module("pytorch_utils", pytorch_setup=pytorch_setup)
    presented: dict[str, types.ModuleType] = {}
    for name in PRESENTED:
        package = _module(name, __path__=[], spec=spec_names, pytorch_utils=setup)
        presented |= {name: package, f"{name}.spec": spec_names, f"{name}.pytorch_utils": setup}
    if not is_installed("absl"):
        logger = logging.getLogger("absl")
        log = _module("absl.logging", **{level: getattr(logger, level) for level in _ABSL_LOGGER})
        presented |= {"absl": _module("absl", __path__=[], logging=log), "absl.logging": log}
    return presented


def _module(name: str, **contents: object) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(contents)
    return module
