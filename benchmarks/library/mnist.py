"""A perceptron of torch's layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.api.workload import Batch
from perfbench.workloads.mnist.params import Params


def loss_on(batch: Batch, params: Params, device: torch.device) -> Callable[[], Tensor]:
    """Return the loss of a perceptron with one hidden layer."""
    size = batch["inputs"][0].numel()
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(size, params.hidden_width), nn.Sigmoid(), nn.Linear(params.hidden_width, 10)
    )
    model.to(device)

    def loss() -> Tensor:
        pixels = (batch["inputs"].float() / 255 - 0.1307) / 0.3081
        return functional.cross_entropy(model(pixels), batch["targets"])

    return loss
