"""Every family's step twice on a GPU under ``deterministic=true``: the same bits, compiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from perfbench.engine.trainer.compiling import bind_loss
from perfbench.engine.wire.determinism import determinism_as_before, require_determinism
from perfbench.engine.wire.team import Solo
from perfbench.registry import workload_families
from tests.gpu.test_workloads import CUDA, on, workload_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: a CPU computes the same bits anyway"),
]


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    with determinism_as_before():
        require_determinism()
        yield


@pytest.mark.parametrize("name", workload_families())
def test_a_compiled_step_has_the_same_gradients_again(name: str) -> None:
    workload = workload_of(name)
    batch = on(CUDA, workload.synthetic_batch(batch_size=workload.spec.reference_batch_size, seed=0))
    model = workload.build_model(seed=0).to(CUDA).train()
    loss = bind_loss(workload, model, Solo())
    found = []
    for _ in range(3):
        torch.manual_seed(0)
        model.zero_grad(set_to_none=True)
        sums = loss(batch)
        (sums.summed / sums.num_valid).backward()
        found.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])

    assert found[0]
    for again in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], again, strict=True))
