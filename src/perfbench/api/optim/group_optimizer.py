"""What optimizers that update a whole group in a few kernels share: the step around the group, and named state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer


class GroupOptimizer(Optimizer):
    """An optimizer whose subclass says what one step does to one group of parameters."""

    @abstractmethod
    def _update_group(self, group: dict[str, Any]) -> None:
        """Update the parameters of a group that have a gradient; gradients are not recorded here."""

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update_group(group)
        return loss

    def _buffers(self, name: str, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Return the state of this name of each parameter: shaped like it, zero until it is first asked for."""
        found = []
        for parameter in parameters:
            state = self.state[parameter]
            if name not in state:
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            found.append(state[name])
        return found

    def _starting_from(self, name: str, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Return the state of this name of each parameter: at first a copy of the parameter itself."""
        found = []
        for parameter in parameters:
            state = self.state[parameter]
            if name not in state:
                state[name] = parameter.detach().clone(memory_format=torch.preserve_format)
            found.append(state[name])
        return found


def with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters of a group that have a gradient, and the gradients; both may be empty."""
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    return parameters, [parameter.grad for parameter in parameters]
