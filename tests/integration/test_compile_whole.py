"""Every workload and variant: model and loss compile into one graph, and nothing compiles again afterwards."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from perfbench.api.workload import Shard
from perfbench.compose import compose_workload
from perfbench.engine.compiling import EvaluationModels, bind_loss
from perfbench.engine.team import Solo
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.criteo.workload import build

VARIANTS = ("criteo", "criteo_layernorm", "criteo_embed_init", "criteo_resnet")


def small(variant: str) -> WorkloadSpec:
    spec = compose_workload(variant, scale="mini", dataset="planted")
    counts = {"train": 4600, "validation": 510, "test": 570}
    return spec.model_copy(update={"params": spec.params | {"expected_examples": counts, "table_rows": 512}})


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_graph_and_no_recompilation_over_epochs_splits_and_last_batches(variant: str, data_root: Path) -> None:
    torch._dynamo.reset()
    counters.clear()
    workload = build(small(variant), data_root / "criteo" / "mini" / "planted")
    model = workload.build_model(seed=0)
    loss, models = bind_loss(workload, model, Solo()), EvaluationModels()

    def train(num_steps: int) -> None:
        model.train()
        stream = workload.train_batches(global_batch_size=256, seed=0, shard=Shard())
        for batch in itertools.islice(stream, num_steps):
            loss(batch, label_smoothing=0.0).summed.backward()
        stream.close()

    def evaluate() -> None:
        model.eval()
        compiled = models.compiled(model)
        with torch.no_grad():
            for split in Split:
                for batch in workload.eval_batches(split, global_batch_size=200, seed=0, shard=Shard()):
                    workload.eval_sums(compiled, batch, split=split)

    train(2)
    evaluate()
    with torch.compiler.set_stance("fail_on_recompile"):
        train(40)  # more than two epochs
        evaluate()
        train(2)

    assert sum(counters["graph_break"].values()) == 0
    assert counters["stats"]["unique_graphs"] == 2, "one for training, one for evaluation"


@pytest.mark.parametrize("variant", ["criteo", "criteo_resnet"])
def test_a_dropout_rate_set_before_compilation_takes_effect_in_the_graph(variant: str, data_root: Path) -> None:
    workload = build(small(variant), data_root / "criteo" / "mini" / "planted")
    model = workload.build_model(seed=0).train()
    workload.set_dropout(model, 0.5)
    loss = bind_loss(workload, model, Solo())
    stream = workload.train_batches(global_batch_size=128, seed=0, shard=Shard())
    batch = next(stream)
    stream.close()

    losses = {float(loss(batch, label_smoothing=0.0).summed.detach()) for _ in range(4)}

    assert len(losses) > 1
