"""Distributed Shampoo with real process groups (gloo): equal gradients give equal bits for any number of ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from perfbench.api import TrainingDiverged
from perfbench.api.optim.blocking import Blocking
from submissions.shampoo.optimizer import DistributedShampoo
from submissions.shampoo.settings import Grafting, ShampooSettings
from tests.integration.process_group import join, leave

pytestmark = pytest.mark.slow

SHAPES = {"table": (30, 5), "linear.weight": (12, 20), "linear.bias": (12,), "conv": (6, 3, 3, 3), "scale": ()}
NUM_STEPS = 11
RESUMED_AT = 6
"""A root step: the checkpoint of the step before it is resumed from."""
SETTINGS = {
    "adam graft": ShampooSettings(
        beta1=0.9,
        beta2=0.95,
        weight_decay=0.1,
        grafting=Grafting.ADAM,
        use_nadam=True,
        precondition_frequency=3,
        blocking=Blocking(max_dimension=8),
    ),
    "sgd graft, momentum": ShampooSettings(
        beta1=0.0,
        beta2=0.95,
        weight_decay=0.1,
        grafting=Grafting.SGD,
        use_nadam=False,
        momentum=0.8,
        precondition_frequency=3,
        blocking=Blocking(max_dimension=8),
    ),
}


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_any_number_of_ranks_takes_the_steps_of_one(tmp_path: Path, num_ranks: int) -> None:
    spawn(train_as_rank, args=(num_ranks, tmp_path), nprocs=num_ranks)

    for name, settings in SETTINGS.items():
        expected = train(settings, rank=0, num_ranks=1)
        ranks = [torch.load(tmp_path / f"{name} {rank}.pt", weights_only=True) for rank in range(num_ranks)]
        for rank, result in enumerate(ranks):
            for parameter, value in expected["parameters"].items():
                assert torch.equal(result["parameters"][parameter], value), f"{name}, rank {rank}, {parameter}"
        blocks = [block for result in ranks for block in result["blocks"]]
        assert sorted(blocks) == sorted(expected["blocks"]), "every block has exactly one owner"
        assert all(result["blocks"] for result in ranks)


def test_more_ranks_than_blocks_leave_some_without_work(tmp_path: Path) -> None:
    spawn(train_one_block, args=(2, tmp_path), nprocs=2)

    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.ones(3))


def test_one_rank_that_diverges_ends_the_training_of_all_at_the_same_step(tmp_path: Path) -> None:
    """The overflow is in the factors of one block only: its owner tells the others."""
    spawn(diverge_as_rank, args=(2, tmp_path), nprocs=2)

    messages = {(tmp_path / f"{rank}.txt").read_text() for rank in range(2)}
    assert messages == {"the gradient statistics of block second/0 are not finite at step 3"}


def diverge_as_rank(rank: int, num_ranks: int, folder: Path) -> None:
    join(rank, num_ranks, folder)
    parameters = {name: nn.Parameter(torch.ones(16)) for name in ("first", "second")}
    settings = replace(SETTINGS["adam graft"], blocking=Blocking(max_dimension=16))
    optimizer = DistributedShampoo(parameters, settings, lr=0.1, rank=rank, num_ranks=num_ranks)
    for name, parameter in parameters.items():
        parameter.grad = torch.full((16,), 1e30 if name == "second" else 0.5)  # its square is no float32
    with pytest.raises(TrainingDiverged) as ended:
        for _ in range(4):
            optimizer.step()
    (folder / f"{rank}.txt").write_text(str(ended.value))
    leave()


def train_as_rank(rank: int, num_ranks: int, folder: Path) -> None:
    join(rank, num_ranks, folder)
    for name, settings in SETTINGS.items():
        torch.save(train(settings, rank=rank, num_ranks=num_ranks), folder / f"{name} {rank}.pt")
    leave()


def train_one_block(rank: int, num_ranks: int, folder: Path) -> None:
    join(rank, num_ranks, folder)
    parameter = nn.Parameter(torch.ones(3))
    optimizer = DistributedShampoo({"only": parameter}, SETTINGS["adam graft"], lr=0.1, rank=rank, num_ranks=num_ranks)
    for _ in range(4):
        parameter.grad = torch.full((3,), 0.5)
        optimizer.step()
    torch.save(parameter.detach(), folder / f"{rank}.pt")
    leave()


def train(settings: ShampooSettings, *, rank: int, num_ranks: int) -> dict[str, Any]:
    """Train on seeded gradients, interrupted once; return the weights and the names of the blocks owned."""
    parameters = {name: nn.Parameter(tensor) for name, tensor in zip(SHAPES, random_tensors(seed=0), strict=True)}
    optimizer = DistributedShampoo(parameters, settings, lr=0.05, rank=rank, num_ranks=num_ranks)
    for step in range(1, NUM_STEPS + 1):
        if step == RESUMED_AT:
            state = optimizer.state_dict()
            optimizer = DistributedShampoo(parameters, settings, lr=1.0, rank=rank, num_ranks=num_ranks)
            optimizer.load_state_dict(state)
        for parameter, gradient in zip(parameters.values(), random_tensors(seed=step), strict=True):
            parameter.grad = gradient
        optimizer.step()
    return {
        "parameters": {name: parameter.detach() for name, parameter in parameters.items()},
        "blocks": list(optimizer.state_dict()["blocks"]),
    }


def random_tensors(*, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES.values()]
