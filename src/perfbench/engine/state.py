"""The training state of one rank: taken, put back, and named by a digest."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from perfbench.api.submission import StateDict, Submission
from perfbench.engine.seeding import capture_generators, restore_generators


def copied(value: Any) -> Any:  # noqa: ANN401 - a tree of plain data
    """Return a deep copy of a tree of tensors and plain data; tensors stay on their device."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value


def take_state(model: nn.Module, submission: Submission) -> StateDict:
    """Return a copy of all that training changes: weights, buffers, the submission's state, generators."""
    return {
        "parameters": copied(dict(model.named_parameters())),
        "buffers": copied(dict(model.named_buffers())),
        "submission": copied(submission.state_dict()),
        "generators": capture_generators(),
    }


def copy_into(live: Iterable[tuple[str, Tensor]], saved: Mapping[str, Tensor]) -> None:
    """Overwrite named tensors in place with saved values; names must agree."""
    with torch.no_grad():
        for name, tensor in live:
            tensor.copy_(saved[name])


def put_state(state: StateDict, model: nn.Module, submission: Submission) -> None:
    """Put a state back in place; gradients are dropped."""
    copy_into(model.named_parameters(), state["parameters"])
    copy_into(model.named_buffers(), state["buffers"])
    for parameter in model.parameters():
        parameter.grad = None
    submission.load_state_dict(copied(state["submission"]))
    restore_generators(state["generators"])


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
