"""What saving and restoring a submission's state have in common: what is no part of it, and what objects consist of."""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perfbench.algoperf.views import Place, storage_place

PLAIN = (bool, int, float, str, type(None))
CONSTANT = (
    type, types.ModuleType, types.BuiltinFunctionType, types.MethodWrapperType, torch.device, torch.dtype, torch.Size,
    torch.memory_format, torch.layout, weakref.ref, np.dtype, property,
)  # fmt: skip
HINT = "a resume needs it: keep tensors, numbers, containers and objects with attributes in the optimizer state"


class Surroundings:
    """What is there besides a submission's state, and is no part of it.

    Args:
        model: Its parameters are saved by the engine: here they are named by their number.
        fixed: Objects that are given to a submission and hold no state of its own.
        root: The package of the submission's modules in this process.
        device: Where tensors belong that were not in host memory.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        fixed: Sequence[object],
        root: str,
        device: torch.device,
    ) -> None:
        self.parameters = list(model.parameters())
        self.fixed = {id(one) for one in (model, *fixed)}
        self._kept = (model, *fixed)
        self._root = root
        self.device = device

    def places(self) -> dict[tuple[Any, ...], int]:
        """Return the number of each parameter by where its values are now."""
        return {place_of(parameter): number for number, parameter in enumerate(self.parameters) if parameter.numel()}

    def owners(self) -> dict[Place, int]:
        """Return the number of a parameter by where its storage is: others in it are views of that parameter."""
        places = ((storage_place(parameter), number) for number, parameter in enumerate(self.parameters))
        return {place: number for place, number in places if place is not None}

    def name_of(self, kind: type) -> str:
        """Return what a class is found by: its module, from the submission's folder on, and its name there."""
        module = kind.__module__
        is_own = f"{module}.".startswith(f"{self._root}.")
        return f"{module.removeprefix(self._root) if is_own else module}:{kind.__qualname__}"

    def class_of(self, name: str) -> type | None:
        """Return the class of such a name, ``None`` where there is none."""
        module, _, qualified = name.partition(":")
        is_own = not module or module.startswith(".")
        found: object = sys.modules.get(f"{self._root}{module}" if is_own else module)
        for part in qualified.split("."):
            found = getattr(found, part, None)
        return found if isinstance(found, type) else None

    def is_constant(self, value: object) -> bool:
        """Tell whether training cannot change a value."""
        if id(value) in self.fixed or isinstance(value, CONSTANT):
            return True
        if isinstance(value, types.FunctionType):
            is_own = f"{value.__module__}.".startswith(f"{self._root}.")
            return not (is_own and value.__closure__)
        if isinstance(value, types.MethodType):
            return self.is_constant(value.__self__)
        foreign = ("torch._C", "torch.distributed", "torch.utils.hooks", "concurrent")
        return type(value).__module__.startswith(foreign) and not isinstance(value, torch.Generator)


def attributes_of(value: object) -> dict[str, Any]:
    """Return an object's attributes, those in slots included."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def has_attributes(value: object) -> bool:
    """Tell whether an object consists of attributes; what has none keeps its state out of sight."""
    return hasattr(value, "__dict__") or any("__slots__" in kind.__dict__ for kind in type(value).__mro__)


def place_of(tensor: Tensor) -> tuple[Any, ...]:
    """Return where a tensor's values are, and in what form."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device
