"""What a trainer hands over or saves: exact plain types only, so that nothing of it can run code; and its digest."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from perfbench.engine.wire.weights import WeightsMemory, named_tensors
from perfbench.errors import SubmissionError

_LEAVES = (bool, int, float, str, type(None))
_TENSORS = (Tensor, nn.Parameter)


def plain(value: Any, where: str) -> Any:  # noqa: ANN401 - a tree of plain data
    """Return the tree with detached tensors and with lists for tuples: what a checkpoint stores. Copies no numbers.

    Types are compared exactly, before any method of a value is called: a subclass may do anything in its methods.

    Raises:
        SubmissionError: If something in it is of another type, named by its place.
    """
    kind = type(value)
    if kind in _TENSORS:
        return value.detach()
    if kind is dict:
        return {_key(key, where): plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if kind is list or kind is tuple:
        return [plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if kind in _LEAVES:
        return value
    raise SubmissionError(
        f"{where} is of type {kind.__name__}",
        where="state_dict",
        hint="a state holds tensors, numbers, strings, None, and lists and dictionaries of these",
    )


def _key(key: Any, where: str) -> str | int | float | bool:  # noqa: ANN401 - whatever was a key
    if type(key) not in (str, int, float, bool):
        raise SubmissionError(f"a key of {where} is of type {type(key).__name__}", where="state_dict")
    checked: str | int | float | bool = key
    return checked


def on_cpu(value: Any) -> Any:  # noqa: ANN401 - a tree of plain data
    """Return a plain tree with its tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [on_cpu(item) for item in value]
    return value


def evaluated_tensors(model: object, expected: WeightsMemory) -> dict[str, Tensor]:
    """Return the parameters and buffers of the module that a submission wants evaluated.

    Raises:
        SubmissionError: If it is no module, or a tensor has another name, shape, dtype or type than the workload's.
    """
    if not isinstance(model, nn.Module):
        raise SubmissionError(
            f"prepare_for_eval returned {type(model).__name__}, not a module",
            where="prepare_for_eval",
            hint="return context.model, or a module with the same parameter names and shapes",
        )
    tensors = named_tensors(model)
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items() if type(tensor) in _TENSORS}
    if found == expected.layout:
        return tensors
    names = sorted(found.keys() | tensors.keys() | expected.layout.keys())
    differing = [name for name in names if found.get(name) != expected.layout.get(name)]
    raise SubmissionError(
        f"the evaluated model is not the workload's: {', '.join(differing[:3])} differ in name, shape, dtype or type",
        where="prepare_for_eval",
        hint="return context.model, or a module with the same parameter names and shapes, of plain tensors",
    )


def copy_into(live: Iterable[tuple[str, Tensor]], saved: Mapping[str, Tensor]) -> None:
    """Overwrite named tensors in place with saved values; names must agree."""
    with torch.no_grad():
        for name, tensor in live:
            tensor.copy_(saved[name])


def digest_of(value: Any) -> str:  # noqa: ANN401 - a tree of plain data
    """Return 16 hexadecimal digits naming the exact bits of a tree of tensors and plain data."""
    digest = hashlib.blake2b(digest_size=8)
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: hashlib.blake2b, value: Any) -> None:  # noqa: ANN401 - a tree of plain data
    if isinstance(value, Tensor):
        flat = value.detach().contiguous().cpu().reshape(-1)
        digest.update(f"tensor {value.dtype} {tuple(value.shape)}".encode())
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(f"key {key!r}".encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}".encode())
        for item in value:
            _feed(digest, item)
    elif isinstance(value, float):
        digest.update(struct.pack("<d", value))
    else:
        digest.update(repr(value).encode())
