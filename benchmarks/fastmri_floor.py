"""What needs no network on the fastmri mini data: the input unchanged, and the best linear filter.

A smoke target must lie above both. `targets.py` measures the rest.

    python benchmarks/fastmri_floor.py [--data phantoms]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from perfbench.api.workload import Shard, Workload
from perfbench.compose import compose_workload
from perfbench.launch.preflight import ensure_data
from perfbench.registry import build_workload
from perfbench.spec.workload import Split

FILTER_SIZE = 11
"""Side of the linear filter, in pixels of 64."""


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="phantoms")
    data = parser.parse_args().data
    spec = compose_workload("fastmri", scale="mini", dataset=data)
    ensure_data(spec, Path("data").resolve(), lambda *_: None, may_prepare=True)
    workload = build_workload(spec, Path("data").resolve())
    print(f"input unchanged {similarity(workload, nn.Identity()):.4f}")
    print(f"linear filter {FILTER_SIZE}x{FILTER_SIZE}: {linear_similarity(workload):.4f}")


class LinearFilter(nn.Module):
    """One convolution: what a linear, translation-invariant reconstruction can do."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv2d(1, 1, FILTER_SIZE, padding=FILTER_SIZE // 2)
        nn.init.dirac_(self.filter.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Return filtered images of the same shape."""
        filtered: Tensor = self.filter(images[:, None])[:, 0]
        return filtered


def linear_similarity(workload: Workload) -> float:
    """Train the linear filter on L1 and return its best validation similarity."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LinearFilter()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    stream = workload.train_batches(global_batch_size=8, seed=0, shard=Shard())
    values = []
    for step in range(1, 1001):
        optimizer.zero_grad()
        sums = workload.loss(model, next(stream))
        (sums.summed / sums.num_valid).backward()
        optimizer.step()
        if step % 100 == 0:
            values.append(similarity(workload, model))
    stream.close()
    return max(values)


def similarity(workload: Workload, model: nn.Module) -> float:
    """Return the mean validation similarity."""
    total: dict[str, Tensor] = {}
    size = workload.spec.eval_batch_size
    with torch.no_grad():
        for batch in workload.eval_batches(Split.VALIDATION, global_batch_size=size, seed=0, shard=Shard()):
            for name, value in workload.eval_sums(model, batch, split=Split.VALIDATION).items():
                total[name] = total[name] + value if name in total else value
    return workload.finish_metrics(Split.VALIDATION, total)["ssim"]


if __name__ == "__main__":
    main()
