"""What averaging gradients costs on paper: seconds of an all-reduce for each workload, on eight cards and on 64.

Nothing is measured and no card is needed: models are built without content, and bytes are divided by bandwidths. A
ring over N ranks sends each gradient 2 (N - 1) / N times; over several nodes the ring's slowest link counts. Nothing of
it is hidden behind the backward pass: model and loss are one graph, which hands over its gradients at its end
(docs/adr/0006).

    python -m benchmarks.communication
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

from rich.console import Console
from rich.table import Table
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from perfbench.compose import compose_workload
from perfbench.registry import build_workload, workload_families
from perfbench.spec.workload import ScaleName

BUS_GB_PER_S = {"8 x A100": 230.0, "8 x H100": 360.0, "64 x H100": 340.0}
"""Assumed bus bandwidth of large all-reduces (GB/s): NVLink within a node, eight links of 400 Gb/s between nodes.
Put in what `nccl-tests` prints on your machine."""
_BYTES_PER_NUMBER = 4


def main() -> None:
    """Print the table."""
    table = Table("workload", "parameters", "gradients GB", *(f"{cards} ms" for cards in BUS_GB_PER_S))
    for name in workload_families():
        count = num_parameters(name)
        seconds = [all_reduce_s(count * _BYTES_PER_NUMBER, cards) for cards in BUS_GB_PER_S]
        table.add_row(
            name,
            f"{count:,}",
            f"{count * _BYTES_PER_NUMBER / 1e9:.3f}",
            *(f"{1e3 * one_s:.2f}" for one_s in seconds),
        )
    Console(soft_wrap=True).print(table)


def num_parameters(workload: str) -> int:
    """Return the number of trained parameters of a workload at full scale."""
    spec = compose_workload(workload, scale=ScaleName.FULL.value)
    looks_at_content = mock.patch.object(nn.init, "trunc_normal_", lambda tensor, **_: tensor)
    with FakeTensorMode(), looks_at_content:
        model = build_workload(spec, Path("/nonexistent")).build_model(seed=0)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def all_reduce_s(num_bytes: int, cards: str) -> float:
    """Return the seconds of one all-reduce.

    >>> round(1e3 * all_reduce_s(2_000_000_000, "8 x H100"), 1)
    9.7
    """
    num_ranks = int(cards.partition(" ")[0])
    return 2 * (num_ranks - 1) / num_ranks * num_bytes / (BUS_GB_PER_S[cards] * 1e9)


if __name__ == "__main__":
    main()
