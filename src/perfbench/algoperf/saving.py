"""Saving and restoring whatever ``init_optimizer_state`` returned, so that training continues bit for bit.

AlgoPerf keeps what has a ``state_dict``, and torch's own casts tensors on loading and knows nothing of an optimizer
inside of another. So the objects themselves are walked: containers, optimizers, schedulers and everything else by its
attributes. What training cannot change (functions, classes, devices) stays as it is built anew. Values go back into the
objects that there are, so that whoever holds one of them still does.

In a state every value is a list that begins with its kind (``"plain"``, ``"tensor"``, ``"dict"``, ...), followed by the
number of the object where others may point to it.
"""

from __future__ import annotations

import enum
import functools
import random
import types
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from perfbench.algoperf.state import HINT, PLAIN, Surroundings, attributes_of, has_attributes, place_of
from perfbench.algoperf.views import Place, View, storage_place
from perfbench.errors import SubmissionError


class Saving:
    """Turns live objects into plain data; tensors are not copied.

    Args:
        around: What is no part of the state.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._places = around.places()
        self._owners = around.owners()
        self._in_storage: dict[Place, list[tuple[list[Any], Tensor]]] = {}
        self._numbers: dict[int, int] = {}
        self._seen: list[object] = []

    def value(self, live: object, where: str) -> list[Any]:  # noqa: PLR0911 - a kind of value each
        """Return the plain form of a value.

        Raises:
            SubmissionError: If something in it cannot be saved, named by its place.
        """
        if type(live) in PLAIN:
            return ["plain", live]
        if isinstance(live, enum.Enum):
            return ["enum", self._around.name_of(type(live)), live.name]
        if isinstance(live, np.generic):
            return ["numpy", str(live.dtype), live.item()]
        if isinstance(live, bool | int | float | str):
            return ["constant"]  # a subclass of a number, such as a named constant
        if self._around.is_constant(live):
            return ["constant"]
        if isinstance(live, tuple):
            name = self._around.name_of(type(live)) if hasattr(live, "_fields") else ""
            return ["tuple", name, self._items(live, where)]
        if id(live) in self._numbers:
            return ["same", self._numbers[id(live)]]
        number = self._numbers[id(live)] = len(self._seen)
        self._seen.append(live)  # so that no other object gets its place in memory
        return self._object(live, number, where)

    def _object(self, live: object, number: int, where: str) -> list[Any]:
        if isinstance(live, Tensor):
            return self._tensor(live, number, where)
        name = next((name for kind, name in self._KINDS if isinstance(live, kind)), "object")
        if name == "object" and not has_attributes(live):
            raise SubmissionError(f"{where} is of type {type(live).__name__}", where="state", hint=HINT)
        if name == "object":
            return [name, number, self._around.name_of(type(live)), self._attributes(live, where)]
        return [name, number, *getattr(self, f"_{name}")(live, where)]

    _KINDS: ClassVar[tuple[tuple[type, str], ...]] = (
        (np.ndarray, "array"),
        (torch.Generator, "generator"),
        (np.random.Generator, "numpy_generator"),
        (random.Random, "random"),
        (nn.Module, "module"),
        (dict, "dict"),
        (list, "list"),
        (deque, "deque"),
        (set, "set"),
        (functools.partial, "partial"),
        (types.FunctionType, "closure"),
        (types.MethodType, "method"),
    )
    """Each has a method here, and one of the same name that restores it."""

    def _array(self, live: NDArray[Any], _where: str) -> list[Any]:
        return [torch.from_numpy(np.array(live))]

    def _generator(self, live: torch.Generator, _where: str) -> list[Any]:
        return [live.get_state()]

    def _numpy_generator(self, live: np.random.Generator, where: str) -> list[Any]:
        return [self.value(live.bit_generator.state, where)]

    def _random(self, live: random.Random, where: str) -> list[Any]:
        return [self.value(live.getstate(), where)]

    def _module(self, live: nn.Module, where: str) -> list[Any]:
        tensors = {**dict(live.named_parameters()), **dict(live.named_buffers())}
        return [[[name, self.value(one, f"{where}.{name}")] for name, one in tensors.items()]]

    def _dict(self, live: dict[Any, Any], where: str) -> list[Any]:
        pairs = [
            [self.value(key, f"a key of {where}"), self.value(item, f"{where}[{_shown(key)}]")]
            for key, item in live.items()
        ]
        return [pairs, self._attributes(live, where)]

    def _list(self, live: list[Any], where: str) -> list[Any]:
        return [self._items(live, where)]

    def _deque(self, live: deque[Any], where: str) -> list[Any]:
        return [live.maxlen, self._items(live, where)]

    def _set(self, live: set[Any], where: str) -> list[Any]:
        return [self._items(sorted(live, key=repr), where)]

    def _partial(self, live: functools.partial[Any], where: str) -> list[Any]:
        return [self.value([live.func, live.args, live.keywords], where)]

    def _closure(self, live: types.FunctionType, where: str) -> list[Any]:
        cells = [[cell.cell_contents] for cell in live.__closure__ or ()]
        return [self.value(cells, f"{where}: what {live.__name__} closes over")]

    def _method(self, live: types.MethodType, where: str) -> list[Any]:
        return [self.value(live.__self__, where)]

    def _attributes(self, live: object, where: str) -> list[Any]:
        return [[name, self.value(item, f"{where}.{name}")] for name, item in attributes_of(live).items()]

    def _items(self, live: Sequence[object], where: str) -> list[Any]:
        return [self.value(item, f"{where}[{number}]") for number, item in enumerate(live)]

    def _tensor(self, live: Tensor, number: int, where: str) -> list[Any]:
        if type(live) not in (Tensor, nn.Parameter):
            raise SubmissionError(f"{where} is of type {type(live).__name__}", where="state", hint=HINT)
        parameter = self._places.get(place_of(live))
        if parameter is not None:
            return ["parameter", number, parameter, live is self._around.parameters[parameter]]
        place = storage_place(live)
        owner = None if place is None else self._owners.get(place)
        if owner is not None:
            behind = View.of(live).moved(-View.of(self._around.parameters[owner]).first_byte)
            return ["parameter_view", number, owner, behind.plain()]
        flags = [live.device.type == "cpu", live.requires_grad and live.is_leaf, isinstance(live, nn.Parameter)]
        entry = ["tensor", number, live.detach(), flags]
        if place is not None:
            self._share(entry, live, self._in_storage.setdefault(place, []))
        return entry

    def _share(self, entry: list[Any], live: Tensor, others: list[tuple[list[Any], Tensor]]) -> None:
        """Let tensors of one storage be views of it: an entry is rewritten once there is a second."""
        others.append((entry, live))
        if len(others) == 1:
            return
        (first, base), *_ = others
        for saved, tensor in others if len(others) == 2 else others[-1:]:  # noqa: PLR2004 - the first and the second
            _, number, values, flags = saved
            one_type = values if tensor.dtype is base.dtype else values.clone()  # a file has one for a storage
            place = [first[1], tensor.untyped_storage().nbytes(), View.of(tensor).plain()]
            saved[:] = ["view", number, place, one_type, flags]


def _shown(key: object) -> str:
    return repr(key) if isinstance(key, PLAIN) else type(key).__name__
