"""The two-sided statistics of one block of a matrix."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from perfbench.api.optim.inverse_roots import Ridge

_NUM_SQUARINGS = 10


@dataclass(frozen=True, slots=True)
class BlockState:
    """State of a block of shape ``[m, n]``; its tensors are only ever changed in place.

    ``left`` and its kin have shape ``[m, m]``, ``right`` and its root ``[n, n]``.
    """

    left: Tensor
    left_root: Tensor
    left_before: Tensor
    """``left`` as it was at the roots before the present ones."""
    right: Tensor
    right_root: Tensor

    @staticmethod
    def start(block: Tensor, ridge: Ridge) -> BlockState:
        """Return the state before the first update."""
        left, right = (torch.eye(size, dtype=block.dtype, device=block.device) for size in block.shape)
        small = ridge.under(torch.ones((), dtype=block.dtype, device=block.device))
        return BlockState(left * small, left.clone(), left * small, right, right.clone())

    def accumulate(self, gradient: Tensor, *, decay: float, ridge: Ridge, roots_are_new: bool) -> None:
        """Take a gradient of shape ``[m, n]`` into both statistics.

        The right statistics are those of gradients that the left root has preconditioned. Where that root has just
        been renewed, they are rescaled as if the new root had preconditioned them from the start.
        """
        num_rows = gradient.shape[0]
        rescaling: Tensor | float = 1.0
        if roots_are_new:
            rescaling = self._rescaling(ridge) / num_rows
            self.left_before.copy_(self.left)
        self.left.addmm_(gradient, gradient.T, beta=decay, alpha=1 - decay)
        preconditioned = gradient.T @ self.left_root
        self.right.mul_(rescaling).addmm_(preconditioned, preconditioned.T, beta=decay, alpha=(1 - decay) / num_rows)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, the very ones that are trained with."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def load(self, saved: dict[str, Tensor]) -> None:
        """Overwrite all tensors in place."""
        for name, tensor in self.tensors().items():
            tensor.copy_(saved[name])

    def _rescaling(self, ridge: Ridge) -> Tensor:
        """Return the trace of the earlier left statistics between the present left roots, at least zero; a scalar."""
        lifted = self.left_before.clone()
        lifted.diagonal().add_(ridge.under(largest_eigenvalue(self.left_before)))
        return ((self.left_root @ lifted) * self.left_root.T).sum().clamp(min=0)


def largest_eigenvalue(matrix: Tensor) -> Tensor:
    """Return the largest eigenvalue of a positive semi-definite matrix, without waiting for the device.

    Squaring leaves, of all eigenvalues, those nearest to the largest; the result is their mean, weighted by their
    1024th powers: too small by less than 4e-4 of it, and by less than 1e-6 where the second is 1 % smaller. Zero for
    a zero matrix.
    """
    power = matrix
    for _ in range(_NUM_SQUARINGS):
        power = power / power.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
        power = power @ power
    return (matrix * power.T).sum() / power.trace().clamp(min=torch.finfo(matrix.dtype).tiny)
