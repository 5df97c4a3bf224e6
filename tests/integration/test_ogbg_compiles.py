"""The graph network compiles into one graph, also at full size, and never again: over epochs, splits, last batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perfbench.api.workload import Shard
from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.ogbg import planted, prepare
from perfbench.workloads.ogbg.workload import build
from tests.integration.one_graph import ONE_FOR_TRAINING_ONE_FOR_EVALUATION, graphs_of_training_and_evaluating

VARIANTS = ("ogbg", "ogbg_gelu", "ogbg_silu", "ogbg_model_size")
SIZES = {"train": 120, "validation": 50, "test": 50}


def spec(variant: str, scale: str, **params: object) -> WorkloadSpec:
    base = compose_workload(variant, scale=scale)
    return base.model_copy(update={"params": base.params | {"expected_counts": SIZES} | params})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Prepared planted molecules by number of tasks."""
    found = {}
    for num_tasks in (4, 128):
        source, folder = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("prepared")
        planted.write_graphs(source, lambda *_: None, seed=2, sizes=SIZES, num_tasks=num_tasks)
        workload = spec("ogbg", "mini", num_tasks=num_tasks)
        request = PrepareRequest(
            workload=workload, destination=folder, source=source, progress=lambda *_: None, options={}
        )
        prepare.prepare(request)
        found[num_tasks] = folder
    return found


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["ogbg", "ogbg_model_size"])
def test_one_graph_and_no_recompilation_over_epochs_splits_and_last_batches(
    variant: str, folders: dict[int, Path]
) -> None:
    workload = build(spec(variant, "mini", num_tasks=4), folders[4])
    graphs = graphs_of_training_and_evaluating(workload, train_batch_size=32, eval_batch_size=32, num_steps=12)

    assert graphs == ONE_FOR_TRAINING_ONE_FOR_EVALUATION


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_full_size_step_is_one_graph_and_equals_the_eager_one(variant: str, folders: dict[int, Path]) -> None:
    torch._dynamo.reset()
    workload = build(spec(variant, "full", num_packs=2), folders[128])
    model = workload.build_model(seed=0)
    workload.set_dropout(model, 0.0)
    stream = workload.train_batches(global_batch_size=16, seed=0, shard=Shard())
    batch = next(stream)
    stream.close()

    def step(whole: bool) -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss = (
            torch.compile(workload.loss, fullgraph=True, dynamic=False, backend="aot_eager") if whole else workload.loss
        )
        sums = loss(model, batch)
        (sums.summed / sums.num_valid).backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        return float(sums.summed.detach() / sums.num_valid), gradients

    eager, compiled = step(whole=False), step(whole=True)

    assert 0.5 < eager[0] < 1.2
    assert compiled[0] == pytest.approx(eager[0], rel=1e-5)
    assert len(eager[1]) == len(list(model.parameters()))
    for one, other in zip(eager[1], compiled[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
