"""Putting a saved state back: values go into the objects that there are, so that whoever holds one of them still does.

What there is was built anew by the same code; objects that came later are made without calling their classes.
"""

from __future__ import annotations

import functools
import random
import types
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perfbench.algoperf.state import CONSTANT, HINT, Surroundings, attributes_of
from perfbench.algoperf.views import Place, View, storage_place, write
from perfbench.errors import SubmissionError

NOTHING = object()
"""Stands where there is no object yet."""


class Restoring:
    """Puts saved values into live objects.

    Args:
        around: What is no part of the state.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._owners = around.owners()
        self._made: dict[int, Any] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._taken: dict[Place, torch.UntypedStorage] = {}

    def value(self, live: Any, saved: Sequence[Any], where: str) -> Any:  # noqa: ANN401 - whatever was saved
        """Return what stands where ``live`` stood: the same object wherever it can take the values.

        Raises:
            SubmissionError: If an object is needed that cannot be made here.
        """
        kind, *rest = saved
        return getattr(self, f"_{kind}")(live, where, *rest)

    def _plain(self, _live: object, _where: str, value: object) -> object:
        return value

    def _enum(self, live: object, where: str, name: str, member: str) -> object:
        return self._class(live, name, where)[member]

    def _numpy(self, _live: object, _where: str, dtype: str, value: object) -> object:
        return np.dtype(dtype).type(value)

    def _constant(self, live: object, where: str) -> object:
        if live is NOTHING:
            raise SubmissionError(f"{where} cannot be made again", where="state", hint=HINT)
        return live

    def _tuple(self, live: object, where: str, name: str, items: Sequence[Any]) -> object:
        before = live if isinstance(live, tuple) else ()
        values = [self.value(_at(before, number), item, f"{where}[{number}]") for number, item in enumerate(items)]
        if len(before) == len(values) and all(old is new for old, new in zip(before, values, strict=True)):
            return before
        if not name:
            return tuple(values)
        return self._class(live, name, where)(*values)

    def _same(self, _live: object, _where: str, number: int) -> object:
        return self._made[number]

    def _parameter(self, _live: object, _where: str, number: int, parameter: int, is_itself: bool) -> Tensor:  # noqa: FBT001
        found = self._around.parameters[parameter]
        tensor = found if is_itself else found.detach()
        self._made[number] = tensor
        return tensor

    def _parameter_view(self, live: object, _where: str, number: int, parameter: int, behind: Sequence[Any]) -> Tensor:
        found = self._around.parameters[parameter]
        view = View.from_plain(behind).moved(View.of(found).first_byte)
        tensor = self._made[number] = _laid(live, view, found.untyped_storage())
        return tensor

    def _tensor(self, live: object, _where: str, number: int, value: Tensor, flags: Sequence[bool]) -> Tensor:
        device = self._device(flags)
        if isinstance(live, Tensor) and self._is_free(live, value, device):
            write(live, value)
            tensor = live
        else:
            tensor = value.to(device, copy=True)
        return self._finished(tensor, number, flags)

    def _view(
        self, live: object, _where: str, number: int, place: Sequence[Any], value: Tensor, flags: Sequence[bool]
    ) -> Tensor:
        group, num_bytes, plain = place
        view, device = View.from_plain(plain), self._device(flags)
        if group not in self._storages:
            is_whole = isinstance(live, Tensor) and live.untyped_storage().nbytes() == num_bytes
            if isinstance(live, Tensor) and is_whole and View.of(live) == view and self._is_free(live, value, device):
                self._storages[group] = live.untyped_storage()
            else:
                self._storages[group] = torch.zeros(num_bytes, dtype=torch.uint8, device=device).untyped_storage()
        tensor = _laid(live, view, self._storages[group])
        write(tensor, value)
        return self._finished(tensor, number, flags)

    def _finished(self, tensor: Tensor, number: int, flags: Sequence[bool]) -> Tensor:
        _, requires_grad, is_parameter = flags
        if is_parameter and not isinstance(tensor, nn.Parameter):
            tensor = nn.Parameter(tensor, requires_grad=False)
        if tensor.is_leaf:
            tensor.requires_grad_(requires_grad)
        place = storage_place(tensor)
        if place is not None:
            self._taken[place] = tensor.untyped_storage()  # held, so that no other gets its place in memory
        self._made[number] = tensor
        return tensor

    def _device(self, flags: Sequence[bool]) -> torch.device:
        return torch.device("cpu") if flags[0] else self._around.device

    def _is_free(self, live: Tensor, value: Tensor, device: torch.device) -> bool:
        """Tell whether a value may be written over a tensor: nothing that was restored, and no parameter, is there."""
        is_alike = live.shape == value.shape and live.dtype == value.dtype and live.device.type == device.type
        place = storage_place(live)
        return is_alike and place not in self._taken and place not in self._owners

    def _array(self, live: object, _where: str, number: int, value: Tensor) -> object:
        array = value.cpu().numpy()
        if isinstance(live, np.ndarray) and live.shape == array.shape and live.dtype == array.dtype:
            live[...] = array
            array = live
        else:
            array = array.copy()
        self._made[number] = array
        return array

    def _generator(self, live: object, _where: str, number: int, state: Tensor) -> object:
        generator = live if isinstance(live, torch.Generator) else torch.Generator(self._around.device)
        generator.set_state(state.cpu())
        self._made[number] = generator
        return generator

    def _numpy_generator(self, live: object, where: str, number: int, state: Sequence[Any]) -> object:
        generator = live if isinstance(live, np.random.Generator) else np.random.default_rng()
        generator.bit_generator.state = self.value(NOTHING, state, where)
        self._made[number] = generator
        return generator

    def _random(self, live: object, where: str, number: int, state: Sequence[Any]) -> object:
        generator = live if isinstance(live, random.Random) else random.Random()
        generator.setstate(self.value(NOTHING, state, where))
        self._made[number] = generator
        return generator

    def _module(self, live: object, where: str, number: int, tensors: Sequence[Any]) -> object:
        if not isinstance(live, nn.Module):
            raise SubmissionError(f"{where} cannot be made again", where="state", hint=HINT)
        self._made[number] = live
        there = {**dict(live.named_parameters()), **dict(live.named_buffers())}
        for name, saved in tensors:
            self.value(there.get(name, NOTHING), saved, f"{where}.{name}")
        return live

    def _dict(
        self, live: object, where: str, number: int, pairs: Sequence[Any], attributes: Sequence[Any]
    ) -> dict[Any, Any]:
        result: dict[Any, Any] = live if isinstance(live, dict) else {}
        self._made[number] = result
        restored = []
        for saved_key, saved in pairs:
            key = self.value(_key_like(result, saved_key), saved_key, f"a key of {where}")
            restored.append((key, self.value(result.get(key, NOTHING), saved, f"{where}[{saved_key[-1]}]")))
        result.clear()
        result.update(restored)
        self._put_attributes(result, attributes, where)
        return result

    def _list(self, live: object, where: str, number: int, items: Sequence[Any]) -> list[Any]:
        result: list[Any] = live if isinstance(live, list) else []
        self._made[number] = result
        result[:] = self._values(result, items, where)
        return result

    def _deque(self, live: object, where: str, number: int, maxlen: int | None, items: Sequence[Any]) -> deque[Any]:
        result: deque[Any] = live if isinstance(live, deque) and live.maxlen == maxlen else deque(maxlen=maxlen)
        self._made[number] = result
        values = self._values(list(result), items, where)
        result.clear()
        result.extend(values)
        return result

    def _set(self, live: object, where: str, number: int, items: Sequence[Any]) -> set[Any]:
        result: set[Any] = live if isinstance(live, set) else set()
        self._made[number] = result
        values = self._values([], items, where)
        result.clear()
        result.update(values)
        return result

    def _partial(self, live: object, where: str, number: int, parts: Sequence[Any]) -> object:
        before = [live.func, live.args, live.keywords] if isinstance(live, functools.partial) else NOTHING
        function, arguments, named = self.value(before, parts, where)
        result = live
        if not isinstance(live, functools.partial) or live.args is not arguments:
            result = functools.partial(function, *arguments, **named)
        self._made[number] = result
        return result

    def _closure(self, live: object, where: str, number: int, cells: Sequence[Any]) -> object:
        if not isinstance(live, types.FunctionType):
            raise SubmissionError(f"{where} cannot be made again", where="state", hint=HINT)
        self._made[number] = live
        there = live.__closure__ or ()
        contents = self.value([[cell.cell_contents] for cell in there], cells, where)
        for cell, (content,) in zip(there, contents, strict=True):
            cell.cell_contents = content
        return live

    def _method(self, live: object, where: str, number: int, owner: Sequence[Any]) -> object:
        if not isinstance(live, types.MethodType):
            raise SubmissionError(f"{where} cannot be made again", where="state", hint=HINT)
        self._made[number] = live
        self.value(live.__self__, owner, where)
        return live

    def _object(self, live: object, where: str, number: int, name: str, attributes: Sequence[Any]) -> object:
        kind = self._class(live, name, where)
        if kind is not type(live):
            live = kind.__new__(kind)
        self._made[number] = live
        self._put_attributes(live, attributes, where)
        return live

    def _put_attributes(self, live: object, attributes: Sequence[Any], where: str) -> None:
        before = attributes_of(live)
        for name, saved in attributes:
            value = self.value(before.get(name, NOTHING), saved, f"{where}.{name}")
            if value is not before.get(name, NOTHING):
                object.__setattr__(live, name, value)
        for name in before.keys() - {name for name, _ in attributes}:
            object.__delattr__(live, name)

    def _values(self, before: Sequence[Any], items: Sequence[Any], where: str) -> list[Any]:
        return [self.value(_at(before, number), item, f"{where}[{number}]") for number, item in enumerate(items)]

    def _class(self, live: object, name: str, where: str) -> Any:  # noqa: ANN401 - some class
        """Return the class of a name: that of what is there, which a call may have made, or one of a module."""
        if self._around.name_of(type(live)) == name:
            return type(live)
        found = self._around.class_of(name)
        if found is None:
            raise SubmissionError(f"{where} is of a class that is not here: {name}", where="state", hint=HINT)
        return found


def _laid(live: object, view: View, storage: torch.UntypedStorage) -> Tensor:
    """Return the tensor that lies so in a storage: the one that there is, if it does."""
    if isinstance(live, Tensor) and live.untyped_storage().data_ptr() == storage.data_ptr() and View.of(live) == view:
        return live
    return view.over(storage)


def _at(items: Sequence[Any], number: int) -> Any:  # noqa: ANN401 - whatever is there
    return items[number] if number < len(items) else NOTHING


def _key_like(live: dict[Any, Any], saved: Sequence[Any]) -> Any:  # noqa: ANN401 - a key
    """Return the live key of a kind that is not saved by its value: there can be one at most."""
    if saved[0] != "constant":
        return NOTHING
    return next((key for key in live if isinstance(key, CONSTANT)), NOTHING)
