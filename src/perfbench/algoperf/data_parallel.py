"""What torch's ``DistributedDataParallel`` adds to a model: with several ranks, AlgoPerf gives models inside of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import NoReturn

from torch import nn

from perfbench.algoperf.batches import NotOffered, refuse

_SWITCH = "require_backward_grad_sync"


def present_wrapper(model: nn.Module) -> None:
    """Let a model answer as its wrapper would: ``module``, ``no_sync()`` and the switch that the latter sets.

    What it does with a communication hook is refused by name: gradients are averaged inside of the compiled loss.
    They are attributes beside the module's own, so that names of parameters and the tree of modules stay what they are.
    """
    added = {"module": model, "no_sync": MethodType(_no_sync, model), _SWITCH: True, "register_comm_hook": _no_hook}
    for name, value in added.items():
        if not hasattr(model, name):
            object.__setattr__(model, name, value)  # a module that is assigned would become a part of itself


def averages(model: nn.Module) -> bool:
    """Tell whether the next backward pass is to average gradients over ranks."""
    return bool(getattr(model, _SWITCH, True))


def _no_hook(*_: object, **__: object) -> NoReturn:
    refuse(
        "register_comm_hook is not offered",
        hint="inside of no_sync() gradients are this rank's own: change and exchange them after backward()",
        kind=NotOffered,
    )


@contextmanager
def _no_sync(model: nn.Module) -> Iterator[None]:
    before = averages(model)
    object.__setattr__(model, _SWITCH, False)
    try:
        yield
    finally:
        object.__setattr__(model, _SWITCH, before)
