"""What torch's ``DistributedDataParallel`` adds to a model: with several ranks, AlgoPerf gives models inside of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

from torch import nn

_SWITCH = "require_backward_grad_sync"


def present_wrapper(model: nn.Module) -> None:
    """Let a model answer as its wrapper would: ``module``, ``no_sync()`` and the switch that the latter sets.

    They are attributes beside the module's own, so that names of parameters and the tree of modules stay what they are.
    """
    added = {"module": model, "no_sync": MethodType(_no_sync, model), _SWITCH: True}
    for name, value in added.items():
        if not hasattr(model, name):
            object.__setattr__(model, name, value)  # a module that is assigned would become a part of itself


def averages(model: nn.Module) -> bool:
    """Tell whether the next backward pass is to average gradients over ranks."""
    return bool(getattr(model, _SWITCH, True))


@contextmanager
def _no_sync(model: nn.Module) -> Iterator[None]:
    before = averages(model)
    object.__setattr__(model, _SWITCH, False)
    try:
        yield
    finally:
        object.__setattr__(model, _SWITCH, before)
