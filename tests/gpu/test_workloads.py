"""Every family on a GPU: numbers of the CPU, nothing that waits, generators of its own; at mini scale, without data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perfbench.api.workload import Batch, Workload
from perfbench.compose import compose_workload
from perfbench.data.speech.task import SpeechWorkload
from perfbench.engine.wire.precision import autocast_of, precision_as_before, set_precision
from perfbench.registry import build_workload, workload_families
from perfbench.spec.ruleset import Precision
from perfbench.spec.workload import ScaleName, Split

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: workloads run on the CPU only"),
]
CUDA = torch.device("cuda")
FAMILIES = pytest.mark.parametrize("name", workload_families())


@pytest.fixture(autouse=True)
def in_float32() -> Iterator[None]:
    with precision_as_before():
        set_precision(Precision.FP32)
        yield


def workload_of(name: str) -> Workload:
    spec = compose_workload(name, scale=ScaleName.MINI.value)
    params = spec.params | ({"decodes": False} if "decodes" in spec.params else {})
    return build_workload(spec.model_copy(update={"params": params}), Path("/nonexistent"))


def moved_model(workload: Workload) -> nn.Module:
    """Build a model for evaluation and move its parameters: at its start it may answer zero, whatever it is given."""
    model = workload.build_model(seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def on(device: torch.device, batch: Batch) -> Batch:
    return {name: tensor.to(device) for name, tensor in batch.items()}


@FAMILIES
def test_loss_and_gradients_are_the_cpu_s(name: str) -> None:
    workload = workload_of(name)
    batch = workload.synthetic_batch(batch_size=workload.spec.reference_batch_size, seed=0)
    losses, gradients = [], []
    for device in (torch.device("cpu"), CUDA):
        model = moved_model(workload).to(device).train()
        workload.set_dropout(model, 0.0)
        if isinstance(workload, SpeechWorkload):
            model.eval()  # in training it masks at random
        sums = workload.loss(model, on(device, batch))
        (sums.summed / sums.num_valid).backward()
        losses.append(float(sums.summed))
        gradients.append(torch.cat([p.grad.cpu().flatten() for p in model.parameters() if p.grad is not None]))

    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 1e-2


@FAMILIES
def test_evaluation_is_the_cpu_s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = workload_of(name)
    monkeypatch.setattr(SpeechWorkload, "_texts", lambda *_: (["a"], ["a"]))  # the vocabulary is data
    batch = workload.synthetic_batch(batch_size=workload.spec.eval_batch_size, seed=0, split=Split.VALIDATION)
    seen: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for device in (torch.device("cpu"), CUDA):
            model = moved_model(workload).to(device)
            sums = workload.eval_sums(model, on(device, batch), split=Split.VALIDATION)
            seen.append({key: value.double().cpu() for key, value in sums.items()})

    for key, expected in seen[0].items():
        close = torch.isclose(seen[1][key], expected, rtol=1e-3, atol=1e-3)
        assert float(close.double().mean()) > 0.99, key  # a prediction between two classes may fall to either side


@FAMILIES
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_an_eager_step_waits_for_nothing(name: str, precision: Precision) -> None:
    workload = workload_of(name)
    model = workload.build_model(seed=0).to(CUDA).train()
    batch = on(CUDA, workload.synthetic_batch(batch_size=workload.spec.reference_batch_size, seed=0))

    def step() -> None:
        with autocast_of(precision, CUDA):
            sums = workload.loss(model, batch)
        (sums.summed / sums.num_valid).backward()

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


@FAMILIES
def test_building_moves_no_generator_and_two_seeds_of_the_device_give_two_masks(name: str) -> None:
    workload = workload_of(name)
    drawn = []
    for rank in range(2):
        torch.manual_seed(rank)
        before = torch.cuda.get_rng_state()
        workload.build_model(seed=5)
        assert torch.equal(torch.cuda.get_rng_state(), before)
        drawn.append(torch.rand(100, device=CUDA))

    assert not torch.equal(*drawn)
