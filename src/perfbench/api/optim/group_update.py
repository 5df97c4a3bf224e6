"""Element-wise updates of whole groups: operator by operator on a processor, one graph on a GPU.

Each operator over lists reads and writes all of its tensors; in one graph each tensor is read and written once. That a
graph has to be compiled, in seconds, is paid back where there are steps by the ten thousand of many parameters, which
on a processor there are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

_LEAST_PARAMETERS = 5_000_000
"""Of fewer an update takes so little that compiling it is not paid back in a trial."""
Number = float | Tensor
"""Of one step: a tensor without dimensions in a graph, so that it is not compiled anew for another value."""


Result = TypeVar("Result")


class GroupUpdate(Generic[Result]):
    """An update of lists of tensors, in place, that may return new ones.

    Args:
        update: Takes lists of tensors by position; by keyword ``numbers``, a tuple of those that change from step to
            step, and ``fixed``, which does not.
    """

    def __init__(self, update: Callable[..., Result]) -> None:
        self._update = update
        self._graph: Callable[..., Result] | None = None

    def __call__(self, *lists: list[Tensor], numbers: tuple[float, ...], fixed: Any) -> Result:  # noqa: ANN401 - the update's own
        """Update in the way of the tensors' device."""
        tensor = lists[0][0]
        # Tensors without content, which checks use, have nothing to compile for; and compiling is on the clock.
        is_worth_it = tensor.is_cuda and sum(map(Tensor.numel, lists[0])) >= _LEAST_PARAMETERS
        way = self.as_graph if is_worth_it and not isinstance(tensor, FakeTensor) else self._update
        return way(*lists, numbers=numbers, fixed=fixed)

    def as_graph(self, *lists: list[Tensor], numbers: tuple[float, ...], fixed: Any) -> Result:  # noqa: ANN401 - the update's own
        """Update by one graph, compiled for these shapes when they are first seen."""
        if self._graph is None:
            self._graph = torch.compile(self._update, fullgraph=True, dynamic=False)
        return self._graph(*lists, numbers=tuple(torch.tensor(number) for number in numbers), fixed=fixed)


def subtract_quotients(parameters: list[Tensor], dividends: list[Tensor], divisors: list[Tensor], rate: Number) -> None:
    """Subtract ``rate`` times the quotients; a rate that is a tensor takes more operators, which a graph makes one."""
    if isinstance(rate, Tensor):
        quotients = torch._foreach_div(dividends, divisors)
        torch._foreach_mul_(quotients, rate)
        torch._foreach_sub_(parameters, quotients)
    else:
        torch._foreach_addcdiv_(parameters, dividends, divisors, -rate)
