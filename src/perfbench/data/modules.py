"""What workloads do to a model of any kind: build it from a seed, name its parameters' roles, set its dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from perfbench.api.workload import ParameterRole


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let the global generator on the CPU start from ``seed`` here, and be as it was afterwards.

    No other device's generator is touched: seeded with the model, it would give every rank the same dropout.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the generator of every device
        yield


def roles_of(model: nn.Module, role_of: Callable[[nn.Module, str], ParameterRole]) -> dict[str, ParameterRole]:
    """Return the role of every parameter.

    Args:
        model: Whose parameters.
        role_of: Given the module that holds a parameter, and the parameter's name there.
    """
    return {
        f"{prefix}.{name}" if prefix else name: role_of(module, name)
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }


def set_dropout_rate(model: nn.Module, rate: float) -> None:
    """Set the rate of every dropout layer, of single numbers and of whole channels."""
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = rate


class AuxiliaryDropout(nn.Dropout):
    """Dropout that AlgoPerf v0.5 and v0.6 set apart from a model's other: of attention weights, or of its input."""


def auxiliary_dropout_setter(model: nn.Module) -> Callable[[float | None], None]:
    """Return what sets the rate of auxiliary dropout; ``None`` is the rate that it has now."""
    own = {module: module.p for module in model.modules() if isinstance(module, AuxiliaryDropout)}

    def set_rate(rate: float | None) -> None:
        for module, own_rate in own.items():
            module.p = own_rate if rate is None else rate

    return set_rate
