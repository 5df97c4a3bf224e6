"""Recognising a folder as an AlgoPerf submission, and what its text says: nothing of it is imported.

Three generations exist (AlgoPerf v0.5, v0.6 and later); a file is told by its features, not by the package it imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from perfbench.algoperf.imports import Imports, read_imports
from perfbench.errors import ConfigError

FUNCTIONS = ("get_batch_size", "init_optimizer_state", "update_params", "data_selection")
"""What every submission of theirs binds."""
_BEGINS = "init_optimizer_state"
_ENTRY = "submission.py"
_TUNING = "tuning_search_space.json"
JAX = frozenset({"jax", "flax", "optax", "chex"})
"""Packages that say of a file that it is written for another framework."""


@dataclass(frozen=True)
class Folder:
    """What the text of a submission's folder says."""

    path: Path
    entry: Path
    """The file with the four functions."""
    trees: dict[Path, ast.Module]
    """Of every file of Python in it that can be read."""
    unreadable: dict[Path, str]
    """What is wrong with the others, and where in them."""

    @property
    def tuning_file(self) -> Path | None:
        """The search space; ``None`` for a submission that tunes itself."""
        named = self.entry.with_name(_TUNING)
        if named.is_file():
            return named
        others = sorted(self.entry.parent.glob("*search_space*.json"))
        return others[0] if len(others) == 1 else None

    @cached_property
    def imports(self) -> Imports:
        """What it imports, from itself and from elsewhere."""
        return read_imports(self.path, self.entry, self.trees, others=self.unreadable)

    def used(self) -> Iterator[tuple[Path, ast.Module]]:
        """Yield the files that its entry imports, the entry first."""
        for path in self.imports.used:
            yield path, self.trees[path]

    @property
    def passes_dropout(self) -> bool:
        """Whether it gives ``model_fn`` a dropout rate, as only the newest generation can."""
        return any("dropout_rate" in names for names in (_keywords(call) for call in self.calls("model_fn")))

    @property
    def defines_prepare_for_eval(self) -> bool:
        """Whether it has the optional function."""
        return "prepare_for_eval" in bound_names(self.trees[self.entry])

    @property
    def takes_train_state(self) -> bool:
        """Whether ``update_params`` names the argument."""
        found = [node for _, tree in self.used() for node in tree.body if isinstance(node, ast.FunctionDef)]
        updates = [node for node in found if node.name == "update_params"]
        return any(one.arg == "train_state" for node in updates for one in (*node.args.args, *node.args.kwonlyargs))

    @property
    def generation(self) -> str:
        """Which of AlgoPerf's interfaces it was written for, in a few words."""
        if self.passes_dropout:
            return "newest (dropout is an argument of model_fn)"
        if self.defines_prepare_for_eval or self.takes_train_state:
            return "v0.6 or later (has prepare_for_eval or train_state, leaves dropout to the runner)"
        return "v0.5 (leaves dropout to the runner)"

    def calls(self, name: str) -> Iterator[ast.Call]:
        """Yield the calls of a function or method of that name."""
        for _, tree in self.used():
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and name_of(node.func) == name:
                    yield node


def is_theirs(path: Path) -> bool:
    """Tell whether a folder holds a submission of theirs."""
    return bool(_entries(path))


def read_folder(path: Path) -> Folder:
    """Return what a folder's text says.

    Raises:
        ConfigError: If it holds none, or several of which none is named ``submission.py``.
    """
    entries = _entries(path)
    chosen = [entry for entry in entries if entry.name == _ENTRY] or [
        entry for entry in entries if not _imports_jax(entry)
    ]
    if not entries:
        raise ConfigError(
            f"no file binds {', '.join(FUNCTIONS)}",
            where=str(path),
            hint="these are an AlgoPerf submission's functions",
        )
    if len(chosen) != 1:
        names = ", ".join(entry.name for entry in entries)
        raise ConfigError(
            f"which file is the submission? {names}",
            where=str(path),
            hint=f"copy one that runs on PyTorch into a folder of its own, as {_ENTRY}, with its {_TUNING} and the "
            "files that it imports",
        )
    read = {file: _parsed(file) for file in sorted(path.rglob("*.py"))}
    trees = {file: tree for file, tree in read.items() if isinstance(tree, ast.Module)}
    unreadable = {file: problem for file, problem in read.items() if isinstance(problem, str)}
    return Folder(path, chosen[0], trees, unreadable)


def folder_of(path: Path) -> Path:
    """Return the folder of a submission that is named by its file, as their ``--submission_path`` does.

    Raises:
        ConfigError: If another file of that folder is what would run.
    """
    if not path.is_file():
        return path
    folder = path.parent
    if path.name != _ENTRY and not (is_theirs(folder) and read_folder(folder).entry == path):
        raise ConfigError(
            "a submission is named by its folder, and this file is not what would run of it",
            where=str(path),
            hint=f"copy it into a folder of its own, as {_ENTRY}, with its {_TUNING} and the files that it imports",
        )
    return folder


def check_near_miss(path: Path) -> None:
    """Check that a folder that is not theirs is nothing like it.

    Raises:
        ConfigError: If its ``submission.py`` is no Python, or that, or the only file that binds what begins a
            submission of theirs, binds only some of the four functions.
    """
    file = path / _ENTRY
    if not file.is_file():
        begun = [one for one in sorted(path.glob("*.py")) if _BEGINS in bound_names(_tree(one) or ast.Module([], []))]
        if len(begun) != 1:
            return
        (file,) = begun
    tree = _parsed(file)
    if isinstance(tree, str):
        raise ConfigError(f"is no Python: {tree}", where=str(file), hint="nothing of this file can run")
    lacking = [name for name in FUNCTIONS if name not in bound_names(tree)]
    if 0 < len(lacking) < len(FUNCTIONS):
        raise ConfigError(
            f"looks like an AlgoPerf submission and has no {', '.join(lacking)}",
            where=str(file),
            hint=f"one binds {', '.join(FUNCTIONS)}; they may be imported from other files",
        )


def bound_names(tree: ast.Module) -> set[str]:
    """Return the names that a module binds at its top: definitions, assignments, imports."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
                names.update(alias.asname or alias.name for alias in aliases)
            case ast.Assign(targets=targets):
                names.update(target.id for target in targets if isinstance(target, ast.Name))
    return names


def _entries(path: Path) -> list[Path]:
    """Return the files of a folder that bind the four functions."""
    if not path.is_dir():
        return []
    files = [file for file in sorted(path.glob("*.py")) if file.is_file()]
    return [file for file in files if (tree := _tree(file)) is not None and set(FUNCTIONS) <= bound_names(tree)]


def _tree(file: Path) -> ast.Module | None:
    tree = _parsed(file)
    return tree if isinstance(tree, ast.Module) else None


def _parsed(file: Path) -> ast.Module | str:
    """Return the syntax of a file, or what is wrong with it."""
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as problem:
        return f"line {problem.lineno}: {problem.msg}"
    except (ValueError, OSError) as problem:
        return str(problem)


def _imports_jax(file: Path) -> bool:
    tree = _tree(file)
    assert tree is not None, "only files that can be read are entries"
    names = [
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    return any(name.partition(".")[0] in JAX for name in names)


def _keywords(call: ast.Call) -> set[str]:
    return {keyword.arg for keyword in call.keywords if keyword.arg is not None}


def name_of(node: ast.expr) -> str:
    """Return the last part of a dotted name; empty for other expressions."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
