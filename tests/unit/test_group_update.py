"""Group updates as one graph: the numbers of the ordinary way, in few passes, nothing compiled anew."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor import config, metrics

from perfbench.api.optim import FixedNumbers, GroupUpdate, NAdamW
from perfbench.api.optim.moments import _ADAM
from submissions.cautious_nadamw.optimizer import CautiousNAdamW

SHAPES = [(640, 32), (64,), ()]
NUM_ELEMENTS = 640 * 32 + 64 + 1
NADAMW_PASSES = 7
"""Weights and both moments are read and written, gradients are read."""
ADAM_PASSES = 6
"""Both moments are read and written, gradients are read, directions are written."""
CAUTIOUS_PASSES = 12
"""How many coordinates are kept is known only after all of them were looked at: those kept are written down between."""


@pytest.fixture
def inductor_metrics() -> Iterator[None]:
    """Let the compiler count bytes, which it does while it logs them, and not take a graph from its cache."""
    log = logging.getLogger("torch._inductor.compile_fx.__inductor_metrics")
    level = log.level
    metrics.reset()
    log.setLevel(logging.INFO)
    with config.patch(fx_graph_cache=False):
        yield
    log.setLevel(level)


def drawn() -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(shape, generator=generator).abs() for shape in SHAPES] for _ in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("update", "num_passes"), [(NAdamW._update, NADAMW_PASSES), (CautiousNAdamW._update, CAUTIOUS_PASSES)]
)
def test_a_graph_does_the_same_in_few_passes_and_is_compiled_once(
    update: GroupUpdate[None], num_passes: int, inductor_metrics: None
) -> None:
    ordinary, compiled = drawn(), drawn()
    fixed = FixedNumbers((0.9, 0.99), 1e-8, 2.0, nesterov=True)
    counters.clear()
    for step in range(1, 4):
        numbers = (1 - 1e-3 * step, 1e-2 * step, 1 - 0.99**step)
        update(*ordinary, numbers=numbers, fixed=fixed)
        update.as_graph(*compiled, numbers=numbers, fixed=fixed)

    assert counters["stats"]["unique_graphs"] == 1
    for mine, other in zip(ordinary, compiled, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-6, rtol=2e-6)
    assert metrics.num_bytes_accessed / 4 / NUM_ELEMENTS == pytest.approx(num_passes, rel=0.02)


@pytest.mark.slow
def test_adam_s_directions_are_one_graph_too(inductor_metrics: None) -> None:
    ordinary, compiled = drawn()[:3], drawn()[:3]
    fixed = (0.9, 0.99, 1e-8)
    for step in range(1, 3):
        corrections = (1 - 0.9**step, 1 - 0.99**step)
        expected = _ADAM(*ordinary, numbers=corrections, fixed=fixed)
        actual = _ADAM.as_graph(*compiled, numbers=corrections, fixed=fixed)
        torch.testing.assert_close(actual, expected, atol=2e-6, rtol=2e-6)

    torch.testing.assert_close(compiled, ordinary, atol=2e-6, rtol=2e-6)
    assert metrics.num_bytes_accessed / 4 / NUM_ELEMENTS == pytest.approx(ADAM_PASSES, rel=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer_type", [NAdamW, CautiousNAdamW])
def test_on_a_device_the_graph_takes_the_steps_of_the_processor_and_is_compiled_once(
    optimizer_type: type[NAdamW],
) -> None:
    weights = [[torch.nn.Parameter(tensor.to(device)) for tensor in drawn()[0]] for device in ("cpu", "cuda")]
    optimizers = [optimizer_type(parameters, lr=1e-2, weight_decay=0.1) for parameters in weights]
    counters.clear()
    for step in range(6):
        for parameters, optimizer in zip(weights, optimizers, strict=True):
            for parameter, gradient in zip(parameters, drawn()[1], strict=True):
                parameter.grad = (gradient * (step + 1)).to(parameter.device)
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 * step  # 0 at first
            optimizer.step()

    assert counters["stats"]["unique_graphs"] == 1
    for mine, other in zip(*weights, strict=True):
        torch.testing.assert_close(mine.detach(), other.detach().cpu(), atol=1e-5, rtol=1e-5)
