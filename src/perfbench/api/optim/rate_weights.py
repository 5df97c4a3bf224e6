"""The meta-trained weights of the network that predicts a learning rate, and the form of their file.

The file is what flax's ``msgpack_serialize`` writes: nested maps by name, whose leaves are arrays as an extension of
type 1: shape, name of the dtype, bytes. Names and shapes are those of the entries that came with it (specification,
2.3.4); the same arrays give a file of the same 147,803 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch
from torch import Tensor

from perfbench.errors import SubmissionError

NUM_FEATURES = 18
WIDTH = 64
"""Of the hidden layer and of the recurrent state."""

_ARRAY_TYPE = 1
_STAND_IN_MULTIPLIER = 8.0
"""The real network mostly predicts multipliers between 3 and 12."""

_Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RateWeights:
    """All arrays of the file, float32. Weights map rows, shape ``[inputs]``, to ``row @ w + b``."""

    hidden: Tensor
    """Shape ``[1, 64]``, as ``cell``: the recurrent state before the first update."""
    cell: Tensor
    unused_w: Tensor
    """A layer whose output the entries overwrite; kept, so that the file is whole. Shape ``[18, 64]``."""
    unused_b: Tensor
    shared_w: Tensor
    """Shape ``[18, 64]``; rectified, then the maximum over all tensors."""
    shared_b: Tensor
    own_w: Tensor
    """Shape ``[18, 64]``."""
    own_b: Tensor
    gates_w: Tensor
    """Shape ``[128, 256]``: from input and hidden state to the gates i, g, f, o."""
    gates_b: Tensor
    rate_w: Tensor
    """Shape ``[64, 1]``."""
    rate_b: Tensor

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> RateWeights:
        """Return the weights on a device, in a dtype."""
        return RateWeights(**{field.name: getattr(self, field.name).to(device, dtype) for field in fields(self)})


_PLACES: dict[str, tuple[_Path, tuple[int, ...]]] = {
    "cell": (("lstm_init_state", "cell"), (1, WIDTH)),
    "hidden": (("lstm_init_state", "hidden"), (1, WIDTH)),
    "unused_w": (("rnn_params", "linear", "w"), (NUM_FEATURES, WIDTH)),
    "unused_b": (("rnn_params", "linear", "b"), (WIDTH,)),
    "shared_w": (("rnn_params", "linear_1", "w"), (NUM_FEATURES, WIDTH)),
    "shared_b": (("rnn_params", "linear_1", "b"), (WIDTH,)),
    "own_w": (("rnn_params", "linear_2", "w"), (NUM_FEATURES, WIDTH)),
    "own_b": (("rnn_params", "linear_2", "b"), (WIDTH,)),
    "gates_w": (("rnn_params", "rnn/linear", "w"), (2 * WIDTH, 4 * WIDTH)),
    "gates_b": (("rnn_params", "rnn/linear", "b"), (4 * WIDTH,)),
    "rate_w": (("rnn_params", "step_size", "w"), (WIDTH, 1)),
    "rate_b": (("rnn_params", "step_size", "b"), (1,)),
}
"""Where in the file each array is, and its shape."""


def read_weights(path: Path) -> RateWeights:
    """Return the weights in a file, on the CPU.

    Raises:
        SubmissionError: If the file has another form, naming what is missing, unknown or of another shape.
    """
    try:
        tree = msgpack.unpackb(path.read_bytes(), ext_hook=_unpacked_array)
        found = _leaves(tree)
    except (ValueError, TypeError, msgpack.UnpackException) as problem:
        raise SubmissionError(
            f"this is no file of weights: {problem or type(problem).__name__}", where=str(path), hint=_HINT
        ) from None
    expected = dict(_PLACES.values())
    shapes = {place: array.shape for place, array in found.items()}
    if shapes != expected:
        differing = sorted({place for place, _ in shapes.items() ^ expected.items()})
        raise SubmissionError(
            f"the arrays are not those expected; differing: {', '.join(map('.'.join, differing))}",
            where=str(path),
            hint=_HINT,
        )
    return RateWeights(**{name: torch.from_numpy(found[place].copy()) for name, (place, _) in _PLACES.items()})


_HINT = "it must be the file `theta.state` of the competition's entry, unchanged"


def write_weights(weights: RateWeights, path: Path) -> None:
    """Write a file of the same form."""
    tree: dict[str, Any] = {}
    for name, (place, _) in _PLACES.items():
        branch = tree
        for key in place[:-1]:
            branch = branch.setdefault(key, {})
        branch[place[-1]] = _packed_array(getattr(weights, name).cpu().numpy())
    path.write_bytes(msgpack.packb(tree))


def random_weights(*, seed: int) -> RateWeights:
    """Return weights that were never trained: they predict a multiplier near 8, whatever happens."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(shape, generator=generator) / math.sqrt(shape[0]) for name, (_, shape) in _PLACES.items()
    }
    drawn["rate_b"] = drawn["rate_b"] + _STAND_IN_MULTIPLIER
    return RateWeights(**drawn)


def write_stand_in(path: Path) -> None:
    """Write random weights: enough to check the code, useless for training."""
    write_weights(random_weights(seed=0), path)


STAND_INS: dict[str, Callable[[Path], None]] = {"weights": write_stand_in}
"""For the module of a submission that declares this file under the name ``weights``."""


def _packed_array(array: np.ndarray[Any, Any]) -> msgpack.ExtType:
    return msgpack.ExtType(_ARRAY_TYPE, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))


def _unpacked_array(kind: int, content: bytes) -> np.ndarray[Any, Any]:
    if kind != _ARRAY_TYPE:
        msg = f"extension type {kind}"
        raise ValueError(msg)
    shape, dtype, values = msgpack.unpackb(content)
    if dtype != "float32":
        msg = f"an array of {dtype}"
        raise ValueError(msg)
    return np.frombuffer(values, dtype=np.float32).reshape(shape)


def _leaves(tree: object, place: _Path = ()) -> dict[_Path, np.ndarray[Any, Any]]:
    """Return the arrays of nested maps by their path."""
    if isinstance(tree, np.ndarray):
        return {place: tree}
    if not isinstance(tree, dict):
        msg = f"a {type(tree).__name__} where maps and arrays should be"
        raise TypeError(msg)
    return {leaf: array for key, branch in tree.items() for leaf, array in _leaves(branch, (*place, str(key))).items()}
