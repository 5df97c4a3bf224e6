"""CASPR with two ranks (gloo): each computes a share of the roots, and all take the steps of one rank, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.spawn import spawn

from perfbench.api import Shard
from submissions.caspr_adaptive.matrices import MatrixView
from submissions.caspr_adaptive.optimizer import CasprAdaptive, CasprSettings
from tests.integration.process_group import join, leave

SHAPES = {"wide": (5, 12), "narrow": (3, 2), "bias": (5,)}
VIEWS = {"wide": MatrixView((1, 0), 12), "narrow": MatrixView((0, 1), 3)}
SETTINGS = CasprSettings(betas=(0.9, 0.95), weight_decay=0.1, max_dimension=8, root_period=3, first_preconditioned=5)


def test_two_ranks_take_the_steps_of_one(tmp_path: Path) -> None:
    spawn(train_as_rank, args=(2, tmp_path), nprocs=2)

    alone = train(Shard())
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for result in ranks:
        for name, weights in alone["weights"].items():
            assert torch.equal(result["weights"][name], weights), name
    owned = [result["owned"] for result in ranks]
    assert all(map(any, owned))
    assert all(first != second for first, second in zip(*owned, strict=True)), "every root is computed once"


def train_as_rank(rank: int, num_ranks: int, folder: Path) -> None:
    join(rank, num_ranks, folder)
    torch.save(train(Shard(rank=rank, num_ranks=num_ranks)), folder / f"{rank}.pt")
    leave()


def train(shard: Shard) -> dict[str, Any]:
    parameters = {name: nn.Parameter(torch.ones(shape)) for name, shape in SHAPES.items()}
    optimizer = CasprAdaptive(parameters, VIEWS, SETTINGS, lr=0.05, shard=shard)
    generator = torch.Generator().manual_seed(0)
    for _ in range(9):
        for parameter in parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return {"weights": {name: p.detach() for name, p in parameters.items()}, "owned": optimizer._is_own}
