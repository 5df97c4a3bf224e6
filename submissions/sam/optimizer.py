"""AdamW on the gradient of the worst weights nearby."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT


class SharpnessAwareAdamW(torch.optim.AdamW):
    """AdamW whose gradient is taken a fixed distance up the hill from where the weights are.

    ``ascend``, after a first backward pass, moves the parameters by ``radius g / |g|``, with the norm over all of them;
    ``step``, after a second one there, brings them back, bit for bit, and takes AdamW's step with the second gradient.

    State: AdamW's 8 bytes per parameter, and between ``ascend`` and ``step`` 4 more. Nothing waits for the device.

    Args:
        params: Parameters or groups.
        radius: The distance.
        betas: Decay of first and second moment.
        weight_decay: Decoupled: multiplied by the learning rate.
        is_guarded: Without any gradient, stay: otherwise zero is divided by zero.
    """

    def __init__(
        self,
        params: ParamsT,
        *,
        radius: float,
        betas: tuple[float, float],
        weight_decay: float,
        lr: float = 1e-3,
        is_guarded: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        self._radius = radius
        self._is_guarded = is_guarded
        self._moved: list[Tensor] = []
        self._origins: list[Tensor] = []

    @torch.no_grad()
    def ascend(self) -> Tensor:
        """Move the parameters up the hill; return the norm of the gradient, a scalar."""
        everything = [parameter for group in self.param_groups for parameter in group["params"]]
        moved = [parameter for parameter in everything if parameter.grad is not None]
        gradients = [parameter.grad for parameter in moved]
        norm = torch.nn.utils.get_total_norm(gradients)
        scale = self._radius / norm
        if self._is_guarded:
            scale = torch.where(norm > 0, scale, 0.0)
        self._moved, self._origins = moved, [parameter.detach().clone() for parameter in moved]
        torch._foreach_add_(moved, torch._foreach_mul(gradients, scale))
        return norm

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take the parameters back to where they were, then step from there."""
        with torch.no_grad():
            torch._foreach_copy_(self._moved, self._origins)
        self._moved, self._origins = [], []
        result: float | None = super().step(closure)
        return result
