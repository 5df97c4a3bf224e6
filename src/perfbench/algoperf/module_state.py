"""What a submission's modules hold besides functions and classes: numbers, containers and members of enumerations.

Their runner saves none of it. Here a trial begins with it as the import left it, and goes on with it as it was.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch

from perfbench.algoperf.restoring import NOTHING, Restoring
from perfbench.algoperf.saving import Saving
from perfbench.algoperf.state import PLAIN, Surroundings
from perfbench.errors import SubmissionError

_WATCHED = (*PLAIN, enum.Enum, list, dict, set, deque, torch.Tensor)

Globals = dict[str, list[Any]]
"""Saved values by name."""


class ModuleState:
    """The globals of modules that training might change.

    Args:
        modules: Imported.
        around: What is no part of a state.
    """

    def __init__(self, modules: Sequence[ModuleType], around: Surroundings) -> None:
        self._around = around
        self._modules = {module.__name__.partition(".")[2]: module for module in modules}
        self._at_import = {name: self._of(module, is_lasting=True) for name, module in self._modules.items()}

    def begin_anew(self) -> None:
        """Put everything back to what the import left."""
        self.restore({})

    def saved(self) -> dict[str, Globals]:
        """Return what has changed since the import, by module and name."""
        found = {}
        for name, module in self._modules.items():
            before, now = self._at_import[name], self._of(module)
            if changed := {key: one for key, one in now.items() if key not in before or not _equal(one, before[key])}:
                found[name] = changed
        return found

    def restore(self, saved: dict[str, Globals]) -> None:
        """Put back what was saved, and the rest to what the import left."""
        for name, module in self._modules.items():
            wanted = self._at_import[name] | saved.get(name, {})
            for key, now in self._of(module).items():
                if key not in wanted:
                    delattr(module, key)
                elif _equal(now, wanted[key]):
                    del wanted[key]
            for key, value in wanted.items():
                live = getattr(module, key, NOTHING)
                setattr(module, key, Restoring(self._around).value(live, value, f"{name}.{key}"))

    def _of(self, module: ModuleType, *, is_lasting: bool = False) -> Globals:
        found = {}
        for name, value in vars(module).items():
            if name.startswith("__") or not isinstance(value, _WATCHED):
                continue
            try:
                saved = Saving(self._around).value(value, f"{module.__name__}.{name}")
            except SubmissionError:
                continue  # a table of something that holds no numbers, such as iterators: it stays what it is
            found[name] = _copied(saved) if is_lasting else saved
        return found


def _copied(saved: Any) -> Any:  # noqa: ANN401 - a tree of plain data
    """Return a saved form that keeps its numbers while the live tensors change."""
    if isinstance(saved, torch.Tensor):
        return saved.clone()
    return [_copied(item) for item in saved] if isinstance(saved, list) else saved


def _equal(one: Any, other: Any) -> bool:  # noqa: ANN401 - a tree of plain data
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and bool(torch.equal(one, other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and repr(one) == repr(other)
