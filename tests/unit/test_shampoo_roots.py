"""Inverse roots: right where they can be computed, harmless where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]  # public, but missing from the stubs

from perfbench.api.optim.inverse_roots import inverse_roots


def random_factor(size: int, *, seed: int = 0) -> Tensor:
    gradients = torch.randn(size, 3 * size, generator=torch.Generator().manual_seed(seed))
    return gradients @ gradients.T / (3 * size)


def one_root(factor: Tensor, *, exponent: int = 2, epsilon: float = 1e-8) -> Tensor:
    (root,), num_kept = inverse_roots([factor], [torch.zeros_like(factor)], exponents=[exponent], epsilon=epsilon)
    assert num_kept == 0
    return root


@pytest.mark.parametrize("exponent", [1, 2, 4, 6])
def test_a_root_taken_exponent_times_is_the_inverse(exponent: int) -> None:
    factor = random_factor(6)

    root = one_root(factor, exponent=exponent)

    torch.testing.assert_close(torch.linalg.matrix_power(root, exponent) @ factor, torch.eye(6), atol=1e-3, rtol=0)


@pytest.mark.parametrize("sizes", [(5, 5, 5), (3, 7, 3, 1), (13, 13)])
def test_a_root_does_not_depend_on_what_is_computed_beside_it(sizes: tuple[int, ...]) -> None:
    factors = [random_factor(size, seed=seed) for seed, size in enumerate(sizes)]
    exponents = [2 + index for index in range(len(sizes))]

    together, _ = inverse_roots(factors, factors, exponents=exponents, epsilon=1e-8)

    for factor, exponent, root in zip(factors, exponents, together, strict=True):
        assert torch.equal(root, one_root(factor, exponent=exponent))


def test_a_diagonal_factor_is_taken_element_by_element() -> None:
    root = one_root(torch.diag(torch.tensor([4.0, 0.0, 0.25])), epsilon=1e-4)

    torch.testing.assert_close(root, torch.diag(torch.tensor([0.5, 100.0, 2.0])), atol=0, rtol=1e-3)
    assert root.count_nonzero() == 3


def test_a_factor_that_is_all_zero_has_a_finite_root() -> None:
    torch.testing.assert_close(one_root(torch.zeros(2, 2), epsilon=1e-8), 1e4 * torch.eye(2))


def test_a_slightly_negative_eigenvalue_is_lifted_to_epsilon() -> None:
    negative = torch.tensor([[1.0, 1.0], [1.0, 1.0 - 1e-6]])

    assert one_root(negative, exponent=4).isfinite().all()


def test_a_failure_is_tried_again_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.linalg, "eigh", failing_in({torch.float32}))
    factor = random_factor(4)

    root = one_root(factor)

    assert root.dtype is torch.float32
    torch.testing.assert_close(root @ root @ factor, torch.eye(4), atol=1e-4, rtol=0)


def test_what_cannot_be_computed_keeps_its_previous_root_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.linalg, "eigh", failing_in({torch.float32, torch.float64}))
    diagonal, dense = torch.eye(2), random_factor(2)
    previous = [torch.zeros(2, 2), torch.full((2, 2), 7.0)]

    roots, num_kept = inverse_roots([diagonal, dense], previous, exponents=[2, 2], epsilon=1e-8)

    assert num_kept == 1
    torch.testing.assert_close(roots[0], torch.eye(2))
    assert torch.equal(roots[1], previous[1])


def test_a_root_that_is_not_finite_keeps_the_previous_one() -> None:
    overflowing = torch.tensor([[3e38, 3e38], [3e38, 3e38]])
    previous = torch.full((2, 2), 7.0)

    (root,), num_kept = inverse_roots([overflowing], [previous], exponents=[2], epsilon=1e-8)

    assert root.isfinite().all()
    assert num_kept == int(torch.equal(root, previous))


def failing_in(dtypes: set[torch.dtype]) -> Callable[[Tensor], Any]:
    eigh = torch.linalg.eigh

    def decompose(matrices: Tensor) -> Any:
        if matrices.dtype in dtypes:
            message = "The algorithm failed to converge"
            raise LinAlgError(message)
        return eigh(matrices)

    return decompose
