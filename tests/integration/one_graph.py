"""Training and evaluating a workload's compiled model over epochs, splits and last batches, counting graphs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import cast
from unittest import mock

import torch
from torch import nn
from torch._dynamo.utils import counters

from perfbench.api.workload import Shard, Workload
from perfbench.engine.trainer.compiling import bind_loss
from perfbench.engine.wire.team import Solo
from perfbench.spec.workload import Split


@dataclass(frozen=True)
class Graphs:
    breaks: int
    unique: int


ONE_FOR_TRAINING_ONE_FOR_EVALUATION = Graphs(breaks=0, unique=2)


def graphs_of_training_and_evaluating(
    workload: Workload, *, train_batch_size: int, eval_batch_size: int, num_steps: int
) -> Graphs:
    """Return what was compiled; after the first two steps and one evaluation of every split, to recompile is an error.

    Graphs are the same whatever code is made from them: none is, which would take most of the time.
    ``num_steps`` should be more than two epochs.
    """
    with mock.patch.object(torch, "compile", partial(torch.compile, backend="aot_eager")):
        return _graphs(
            workload, train_batch_size=train_batch_size, eval_batch_size=eval_batch_size, num_steps=num_steps
        )


def _graphs(workload: Workload, *, train_batch_size: int, eval_batch_size: int, num_steps: int) -> Graphs:
    torch._dynamo.reset()
    counters.clear()
    model = workload.build_model(seed=0)
    loss = bind_loss(workload, model, Solo())
    compiled = cast("nn.Module", torch.compile(model, fullgraph=True, dynamic=False))

    def train(num_steps: int) -> None:
        model.train()
        stream = workload.train_batches(global_batch_size=train_batch_size, seed=0, shard=Shard())
        for batch in itertools.islice(stream, num_steps):
            loss(batch, label_smoothing=0.0).summed.backward()
        stream.close()

    def evaluate() -> None:
        model.eval()
        with torch.no_grad():
            for split in Split:
                for batch in workload.eval_batches(split, global_batch_size=eval_batch_size, seed=0, shard=Shard()):
                    workload.eval_sums(compiled, batch, split=split)

    train(2)
    evaluate()
    with torch.compiler.set_stance("fail_on_recompile"):
        train(num_steps)
        evaluate()
        train(2)
    return Graphs(breaks=sum(counters["graph_break"].values()), unique=counters["stats"]["unique_graphs"])
