"""fastMRI, PyTorch Geometric and torchrec: similarity, transforms, sums over edges, the lookup of clicks."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType

import fastmri
import numpy as np
import torch
from fastmri.data.transforms import complex_center_crop, to_tensor
from fastmri.losses import SSIMLoss
from torch import Tensor

from benchmarks.library_parts.part import Part, seeded
from perfbench.compose import compose_workload
from perfbench.registry import build_workload
from perfbench.workloads.fastmri.imaging import hybrid_of, zero_filled
from perfbench.workloads.fastmri.masks import EVALUATION_KEY, kept_columns
from perfbench.workloads.fastmri.ssim import structural_similarity
from perfbench.workloads.ogbg import model as graph_model
from perfbench.workloads.ogbg.params import Params


def parts() -> list[Part]:
    """Return the parts of reconstruction, of graphs and of clicks."""
    return [_similarity(), _transforms(), _lookup(), _sums("mini", 32), _sums("full", 64)]


def _similarity() -> Part:
    first = torch.rand(2, 320, 320, generator=seeded(), dtype=torch.float64) * 5e-4
    second = first + torch.randn(2, 320, 320, generator=seeded(1), dtype=torch.float64) * 2e-5
    ranges = first.amax(dim=(1, 2))
    loss = SSIMLoss().double()
    return Part(
        "structural similarity",
        "fastmri.losses.SSIMLoss",
        lambda: structural_similarity(first, second, ranges),
        lambda: 1 - loss(first[:, None], second[:, None], ranges, reduced=False).mean(dim=(1, 2, 3)),
        "ours: equal, and one pooling instead of five convolutions",
        is_compiled=True,
    )


def _transforms() -> Part:
    drawn = np.random.default_rng(0).standard_normal((2, 640, 368)).astype(np.float32)
    kspace = (drawn[0] + 1j * drawn[1]).astype(np.complex64)
    kept = kept_columns(EVALUATION_KEY, 368, acceleration=4, center_fraction=0.08)
    hybrid = hybrid_of(kspace, 320)

    def theirs() -> Tensor:
        image = complex_center_crop(fastmri.ifft2c(to_tensor(kspace * kept)), (320, 320))
        out: Tensor = fastmri.complex_abs(image)
        return out

    return Part(
        "zero-filled image of a slice",
        "fastmri.ifft2c, complex_center_crop, complex_abs",
        lambda: torch.from_numpy(zero_filled(hybrid, kept, 320)),
        theirs,
        "ours: half of the transform is done once, when preparing",
    )


def _sums(scale: str, num_graphs: int) -> Part:
    """A whole step of the graph network, with torch's sums over edges and with PyTorch Geometric's."""
    spec = compose_workload("ogbg", scale=scale)
    workload, params = build_workload(spec, Path("/nonexistent")), Params.from_mapping(spec.params)
    batch = workload.synthetic_batch(batch_size=num_graphs, seed=0)

    def loss_of(module: ModuleType) -> Callable[[], Tensor]:
        torch.manual_seed(0)
        model = module.GraphNetwork(params)
        workload.set_dropout(model, 0.0)
        return lambda: workload.loss(model, batch).summed

    def by_index(values: Tensor, index: Tensor, num_rows: int) -> Tensor:
        return values.new_zeros(num_rows, values.shape[1]).index_add(0, index, values)

    module = find_spec(graph_model.__name__)
    assert module is not None
    assert module.loader is not None
    exchanged = module_from_spec(module)  # a copy of the module
    module.loader.exec_module(exchanged)
    exchanged._summed = by_index  # type: ignore[attr-defined]  # noqa: SLF001 - what is exchanged
    return Part(
        f"step of the graph network, {scale}, {num_graphs} graphs",
        "torch_geometric.utils.scatter",
        loss_of(exchanged),
        loss_of(graph_model),
        "PyTorch Geometric's, not torch.Tensor.index_add",
        is_compiled=True,
        has_gradient=True,
    )


def _lookup() -> Part:
    """A whole step of the small click model, with either's table."""
    losses = []
    for embedding in ("torch", "torchrec"):
        spec = compose_workload("criteo", scale="mini")
        spec = spec.model_copy(update={"params": {**spec.params, "embedding": embedding}})
        workload = build_workload(spec, Path("/nonexistent"))
        model, batch = workload.build_model(seed=0), workload.synthetic_batch(batch_size=128, seed=0)
        losses.append(lambda workload=workload, model=model, batch=batch: workload.loss(model, batch).summed)
    return Part(
        "step of the click model",
        "torchrec EmbeddingBagCollection, DenseArch",
        losses[0],
        losses[1],
        "ours; workload.params.embedding=torchrec is the other (ADR 0005)",
        is_compiled=True,
        has_gradient=True,
    )
