"""Compilation: every model whole, together with its loss, before there is a submission.

``DistributedDataParallel`` cannot be traced whole (its forward logs through a C++ object), so it wraps the compiled
module and not the other way round: docs/adr/0006.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from perfbench.api.submission import BoundLoss
from perfbench.api.workload import Batch, LossSums, Workload
from perfbench.engine.wire.precision import autocast_of
from perfbench.engine.wire.team import Team
from perfbench.spec.ruleset import Precision


def _loss_of(workload: Workload, model: nn.Module) -> Callable[[Batch, float], LossSums]:
    def loss(batch: Batch, label_smoothing: float) -> LossSums:
        return workload.loss(model, batch, label_smoothing=label_smoothing)

    return loss


class ModelWithLoss(nn.Module):
    """A workload's model and loss as one module, so that they compile into one graph."""

    def __init__(self, workload: Workload, model: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self._precision = precision
        # In a closure: no attribute of what a submission is given leads to the workload. Who looks into closures finds
        # one that has no data.
        self._loss = _loss_of(workload, model)

    def forward(self, batch: Batch, label_smoothing: float = 0.0) -> LossSums:
        """Return the loss sums of one rank's part of a batch."""
        with autocast_of(self._precision, next(self.model.parameters()).device):
            return self._loss(batch, label_smoothing)


def bind_loss(workload: Workload, model: nn.Module, team: Team, precision: Precision = Precision.TF32) -> BoundLoss:
    """Return the compiled loss of ``model`` in a precision; its backward averages gradients over ranks.

    Gradients are averaged and not summed: ``TrainingContext.global_mean`` accounts for it.
    """
    module: nn.Module = ModelWithLoss(workload, model, precision)
    compiled = cast("nn.Module", torch.compile(module, fullgraph=True, dynamic=False))
    if team.shard.num_ranks == 1:
        return cast("BoundLoss", compiled)
    device = next(model.parameters()).device
    parallel = DistributedDataParallel(
        compiled,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **cast("dict[str, Any]", _buffers_stay_local()),
    )
    return cast("BoundLoss", parallel)


def local_loss(workload: Workload, model: nn.Module, precision: Precision = Precision.TF32) -> BoundLoss:
    """Return the loss of ``model`` as it is: not compiled, and its backward concerns this rank alone."""
    return cast("BoundLoss", ModelWithLoss(workload, model, precision))


def _buffers_stay_local() -> dict[str, bool]:
    """Keep batch-norm statistics per rank (they are averaged before an evaluation, not taken from rank 0).

    torch 2.14 renames the option and warns about the old name; torch 2.11 knows only the old one.
    """
    parameters = inspect.signature(DistributedDataParallel.__init__).parameters
    return {"forward_sync_buffers": False} if "forward_sync_buffers" in parameters else {"broadcast_buffers": False}


def num_compiled_graphs() -> int:
    """Return how many graphs this process has compiled so far; the difference counts recompilations."""
    return int(counters["stats"]["unique_graphs"])
