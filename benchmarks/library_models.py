"""What a person would take from torch or torchvision for a task, with the dimensions of a workload; by its parameters.

None of them is the workload's model exactly (initialisation, biases and places of dropout differ a little): each does
the same work at the same sizes. The model of a family is in ``benchmarks/library/<family>.py``, which has
``loss_on(batch, params, device)`` with the family's own parameters; a family that no library has a model for has no
file there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from perfbench.api.workload import Batch, Workload
from perfbench.registry import params_of

Loss = Callable[[], Tensor]


def library_loss(workload: Workload, batch: Batch, device: torch.device) -> Loss | None:
    """Return the loss of the library's model on a batch, or ``None`` where no library has the model."""
    module = f"benchmarks.library.{workload.spec.family}"
    if find_spec(module) is None:
        return None
    torch.manual_seed(0)
    loss: Loss = import_module(module).loss_on(batch, params_of(workload.spec), device)
    return loss
