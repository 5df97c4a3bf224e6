"""Inverse roots of symmetric positive semi-definite matrices, batched, and never the cause of a NaN.

The result for a matrix does not depend on which others are computed with it, bit for bit on a CPU: that is what makes
the trajectory independent of how blocks are spread over ranks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]  # public, but missing from the stubs

_MAX_BATCH_BYTES = 2**28
"""Of matrices decomposed at once: bounds the memory of a root step (64 matrices of 1024 x 1024)."""

_Decomposition = tuple[Tensor, Tensor]
"""Eigenvalues, ascending, and eigenvectors in columns."""


@dataclass(frozen=True, slots=True)
class Ridge:
    """What is added to every eigenvalue.

    Args:
        absolute: The same for every matrix.
        relative: As a part of the matrix's largest eigenvalue.
    """

    absolute: float
    relative: float = 0.0

    def under(self, largest: Tensor) -> Tensor | float:
        """Return the ridge of a matrix with this largest eigenvalue (a scalar)."""
        return self.absolute + self.relative * largest if self.relative else self.absolute


def inverse_roots(
    factors: Sequence[Tensor], previous: Sequence[Tensor], *, exponents: Sequence[int], epsilon: float | Ridge
) -> tuple[list[Tensor], int]:
    """Return ``(factor + shift + epsilon)^(-1/exponent)`` of each matrix, and how many could not be computed.

    ``shift`` lifts a negative smallest eigenvalue to zero. A diagonal factor is taken element by element. Where the
    eigendecomposition fails, or does not give a finite root, it is tried again in float64; where that fails too, the
    previous root stays. Waits for the device: torch reads the error code of every decomposition, and here it is
    decided by value.

    Args:
        factors: Finite matrices, each of shape ``[d, d]`` with its own ``d``.
        previous: Their present roots.
        exponents: The ``r`` of each root, positive.
        epsilon: Added to every eigenvalue; a number is absolute.

    Source: Shi et al. (2023), "A Distributed Data-Parallel PyTorch Implementation of the Distributed Shampoo
    Optimizer", section 3; behaviour measured on the AlgoPerf v0.5 entry.
    """
    ridge = epsilon if isinstance(epsilon, Ridge) else Ridge(epsilon)
    results: list[Tensor | None] = [None] * len(factors)
    is_diagonal = _read([_is_diagonal(factor) for factor in factors])
    for index, factor in enumerate(factors):
        if is_diagonal[index]:
            values = factor.diagonal().clamp(min=0)
            results[index] = torch.diag((values + ridge.under(values.max())).pow(-1.0 / exponents[index]))
    for members in _batches(factors, [index for index, known in enumerate(is_diagonal) if not known]):
        decompositions = _decompose([factors[index] for index in members])
        for index, decomposition in zip(members, decompositions, strict=True):
            results[index] = _root_of(decomposition, exponents[index], ridge=ridge)
    return _finite_or_previous(results, factors, previous, exponents=exponents, ridge=ridge)


def _is_diagonal(factor: Tensor) -> Tensor:
    return (factor == torch.diag(factor.diagonal())).all()


def _read(flags: Sequence[Tensor]) -> list[bool]:
    """Read scalar flags from the device, all in one transfer."""
    return [bool(flag) for flag in torch.stack(list(flags)).tolist()] if flags else []


def _batches(factors: Sequence[Tensor], indices: Sequence[int]) -> Iterator[list[int]]:
    """Yield the numbers of equally large factors, as many at once as memory allows.

    On a CPU, LAPACK goes through a batch one by one anyway, and its last bits depend on where in memory a matrix
    starts: there, each is a batch of its own.
    """
    by_size: dict[int, list[int]] = defaultdict(list)
    for index in indices:
        by_size[factors[index].shape[0]].append(index)
    for members in by_size.values():
        one = factors[members[0]]
        at_once = 1 if one.device.type == "cpu" else max(_MAX_BATCH_BYTES // (one.numel() * one.element_size()), 1)
        for start in range(0, len(members), at_once):
            yield members[start : start + at_once]


def _decompose(factors: Sequence[Tensor]) -> list[_Decomposition | None]:
    """Return the decompositions of equally large matrices, ``None`` where there is none."""
    try:
        values, vectors = torch.linalg.eigh(torch.stack(list(factors)))
    except LinAlgError:
        if len(factors) == 1:
            return [None]
        # One bad matrix fails the whole batch: go through them one by one.
        return [_decompose([factor])[0] for factor in factors]
    return list(zip(values, vectors, strict=True))


def _root_of(decomposition: _Decomposition | None, exponent: int, *, ridge: Ridge) -> Tensor | None:
    if decomposition is None:
        return None
    values, vectors = decomposition
    powers = (values - values[0].clamp(max=0) + ridge.under(values[-1])).pow(-1.0 / exponent)
    # Copied out of the batch: matrix products, too, depend on alignment in their last bits.
    vectors = vectors.clone(memory_format=torch.contiguous_format)
    root: Tensor = (vectors * powers) @ vectors.T
    return root


def _finite_or_previous(
    results: Sequence[Tensor | None],
    factors: Sequence[Tensor],
    previous: Sequence[Tensor],
    *,
    exponents: Sequence[int],
    ridge: Ridge,
) -> tuple[list[Tensor], int]:
    """Replace what is missing or not finite by a second try in float64, else by the previous root."""
    known = [(index, result) for index, result in enumerate(results) if result is not None]
    flags = _read([result.isfinite().all() for _, result in known])
    good = {index: result for (index, result), is_finite in zip(known, flags, strict=True) if is_finite}
    chosen, num_kept = [], 0
    for index, factor in enumerate(factors):
        root = good.get(index)
        if root is None:
            root = _root_in_float64(factor, exponents[index], ridge=ridge)
        if root is None:
            root = previous[index]
            num_kept += 1
        chosen.append(root)
    return chosen, num_kept


def _root_in_float64(factor: Tensor, exponent: int, *, ridge: Ridge) -> Tensor | None:
    root = _root_of(_decompose([factor.double()])[0], exponent, ridge=ridge)
    if root is None:
        return None
    root = root.to(factor.dtype)
    return root if bool(root.isfinite().all()) else None
