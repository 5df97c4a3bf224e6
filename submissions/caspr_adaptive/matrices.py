"""Which parameters are preconditioned, and how each is read as a matrix whose rows are inputs.

The method treats the two sides of a matrix differently and takes the input side first. The entry was written for
kernels of shape (inputs, outputs); torch stores most weights the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from perfbench.api import ParameterRole

MAX_SIDE = 40_000
"""Matrices with a longer side are not preconditioned."""

_AS_STORED = (0, 1)
_INPUTS_FIRST = (1, 0)
_MATRIX_DIMENSIONS = 2


@dataclass(frozen=True, slots=True)
class MatrixView:
    """How a parameter is read as a matrix.

    Args:
        permutation: Brings the dimensions into the order (kernel ..., inputs, outputs).
        num_rows: How many of the then leading elements make a column.
    """

    permutation: tuple[int, ...]
    num_rows: int

    def of(self, tensor: Tensor) -> Tensor:
        """Return the matrix, shape ``[num_rows, numel / num_rows]``; a view where that is possible."""
        return tensor.permute(self.permutation).reshape(self.num_rows, -1)

    def back(self, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        """Return a matrix in the parameter's own shape."""
        inverse = sorted(range(len(shape)), key=self.permutation.__getitem__)
        return matrix.reshape([shape[dim] for dim in self.permutation]).permute(inverse)


def matrix_views(model: nn.Module, roles: Mapping[str, ParameterRole]) -> dict[str, MatrixView]:
    """Return the view of every parameter that is preconditioned, by name; vectors and very long matrices are not.

    A dense or recurrent weight is read transposed, a convolution with its kernel and inputs as rows, an embedding as
    it is stored.
    """
    views = {}
    for module_name, module in model.named_modules():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            name = f"{module_name}.{parameter_name}".lstrip(".")
            if name not in roles or parameter.dim() < _MATRIX_DIMENSIONS:  # tied parameters have one role, one name
                continue
            view = _view(parameter.shape, _permutation(module, parameter.dim(), roles[name]))
            if max(view.num_rows, parameter.numel() // view.num_rows) <= MAX_SIDE:
                views[name] = view
    return views


def _permutation(module: nn.Module, num_dimensions: int, role: ParameterRole) -> tuple[int, ...]:
    if num_dimensions == _MATRIX_DIMENSIONS:
        return _AS_STORED if role is ParameterRole.EMBEDDING else _INPUTS_FIRST
    if role is not ParameterRole.CONV_WEIGHT:
        return tuple(range(num_dimensions))
    kernel = tuple(range(2, num_dimensions))
    is_transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    return (*kernel, 0, 1) if is_transposed else (*kernel, 1, 0)


def _view(shape: Sequence[int], permutation: tuple[int, ...]) -> MatrixView:
    sizes = [shape[dim] for dim in permutation]
    # Of three dimensions the middle one goes to the side that it makes less long.
    is_wide = len(sizes) == 3 and sizes[1] < sizes[0]  # noqa: PLR2004
    return MatrixView(permutation, sizes[0] if is_wide else math.prod(sizes[:-1]))
