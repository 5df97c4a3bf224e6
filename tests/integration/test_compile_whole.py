"""Every workload and variant: model and loss compile into one graph, and nothing compiles again afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfbench.api.workload import Shard
from perfbench.compose import compose_workload
from perfbench.engine.trainer.compiling import bind_loss
from perfbench.engine.wire.team import Solo
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.criteo.workload import build
from tests.integration.one_graph import ONE_FOR_TRAINING_ONE_FOR_EVALUATION, graphs_of_training_and_evaluating

VARIANTS = ("criteo", "criteo_layernorm", "criteo_embed_init", "criteo_resnet")


def small(variant: str) -> WorkloadSpec:
    spec = compose_workload(variant, scale="mini", dataset="planted")
    counts = {"train": 4600, "validation": 510, "test": 570}
    return spec.model_copy(update={"params": spec.params | {"expected_examples": counts, "table_rows": 512}})


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_graph_and_no_recompilation_over_epochs_splits_and_last_batches(variant: str, data_root: Path) -> None:
    workload = build(small(variant), data_root / "criteo" / "mini" / "planted")
    graphs = graphs_of_training_and_evaluating(workload, train_batch_size=256, eval_batch_size=200, num_steps=40)

    assert graphs == ONE_FOR_TRAINING_ONE_FOR_EVALUATION


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
