"""The small problems V, M and T of the specification's check figures (part 5), and models without chance."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

V_START = (1.0, -0.5)
M_START = ((0.5, -0.25, 1.0), (0.75, 0.3, -0.6))


def vector_problem(dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Parameter, Callable[[Tensor], Tensor]]:
    """Return the start of problem V and its gradient, shape ``[2]``."""
    hessian = torch.tensor([[2.0, 0.3], [0.3, 0.5]], dtype=dtype)
    linear = torch.tensor([-0.1, 0.2], dtype=dtype)
    return torch.nn.Parameter(torch.tensor(V_START, dtype=dtype)), lambda weights: hessian @ weights + linear


def matrix_problem(dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Parameter, Callable[[Tensor], Tensor]]:
    """Return the start of problem M and its gradient, shape ``[2, 3]``."""
    curvature = torch.tensor([[1.0, 2.0, 0.5], [0.25, 1.5, 3.0]], dtype=dtype)
    minimum = torch.tensor([[0.1, 0.2, -0.3], [0.4, -0.5, 0.6]], dtype=dtype)
    return torch.nn.Parameter(torch.tensor(M_START, dtype=dtype)), lambda weights: curvature * (weights - minimum)


def noise_of_problem_t(call: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return what problem T adds to the gradient of M at a call, counted from 1."""
    return torch.tensor(
        [[0.3 * math.sin(1 + call * (3 * row + column + 1)) for column in range(3)] for row in range(2)], dtype=dtype
    )


def trajectory(
    optimizer: torch.optim.Optimizer,
    weights: torch.nn.Parameter,
    gradient: Callable[[Tensor], Tensor],
    *,
    num_steps: int,
) -> list[list[float]]:
    """Return the weights after each step, flattened."""
    visited = []
    for _ in range(num_steps):
        weights.grad = gradient(weights.detach())
        optimizer.step()
        visited.append(weights.detach().flatten().tolist())
    return visited


def without_dropout(model: nn.Module) -> nn.Module:
    """Return the same model, whose dropout drops nothing from now on."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model
