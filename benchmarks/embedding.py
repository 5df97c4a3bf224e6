"""The embedding lookup of the Criteo model, three ways: what compiles whole, and what a step costs.

``nn.Embedding`` (one table, 26 rows per example) against torchrec's ``EmbeddingBagCollection`` on a
``KeyedJaggedTensor``: one feature with 26 bags per example (``workload.params.embedding=torchrec``), and a feature for
each column. All share one table. Forward and backward, dense gradients; the ways take turns within each round.

    make bench-embedding
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from perfbench.workloads.criteo.bags import Bags

NUM_COLUMNS = 26
NUM_ROUNDS = 30


class Summed(nn.Module):
    """The sum over all looked-up values, for a gradient of every one of them.

    Args:
        lookup: From ids ``[b, 26]`` to vectors.
    """

    def __init__(self, lookup: nn.Module) -> None:
        super().__init__()
        self.lookup = lookup

    def forward(self, ids: Tensor) -> Tensor:
        """Return a number for ids ``[b, 26]``."""
        total: Tensor = self.lookup(ids).sum()
        return total


class FeatureForEachColumn(nn.Module):
    """torchrec as its examples have it: bags of one id, 26 features on one shared table."""

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.names = [f"c{column}" for column in range(NUM_COLUMNS)]
        config = EmbeddingBagConfig(
            name="table", embedding_dim=width, num_embeddings=num_rows, feature_names=self.names
        )
        self.collection = EmbeddingBagCollection(tables=[config])

    def forward(self, ids: Tensor) -> Tensor:
        """Return vectors ``[b, 26 * d]`` for ids ``[b, 26]``."""
        lengths = torch.ones(ids.numel(), dtype=ids.dtype, device=ids.device)
        jagged = KeyedJaggedTensor(keys=self.names, values=ids.T.reshape(-1), lengths=lengths)
        vectors: Tensor = self.collection(jagged).values()
        return vectors


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2_048)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, width = arguments.rows, arguments.width
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ids = torch.randint(0, rows, (arguments.batch, NUM_COLUMNS), dtype=torch.int32, device=device)
    ways: list[tuple[str, Callable[[], nn.Module], torch.dtype]] = [
        ("nn.Embedding", lambda: nn.Embedding(rows, width), torch.int32),
        ("torchrec, one feature", lambda: Bags(rows, width), torch.int32),
        ("torchrec, one feature, int64", lambda: Bags(rows, width), torch.int64),
        ("torchrec, 26 features, int64", lambda: FeatureForEachColumn(rows, width), torch.int64),
    ]
    modules = [(Summed(build()).to(device), ids.to(dtype)) for _, build, dtype in ways]
    eager = step_ms(modules)
    compiled = step_ms([(torch.compile(module, fullgraph=True, dynamic=False), ids) for module, ids in modules])
    table = Table("lookup", "eager", "compiled whole", "of nn.Embedding")
    for (name, _, _), eager_ms, compiled_ms in zip(ways, eager, compiled, strict=True):
        table.add_row(name, f"{eager_ms:.2f} ms", f"{compiled_ms:.2f} ms", f"{compiled_ms / compiled[0]:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"{arguments.batch:,} examples, table {rows:,} x {width}; forward and backward, median of {NUM_ROUNDS}"
    )


def step_ms(modules: Sequence[tuple[Callable[[Tensor], Tensor], Tensor]]) -> list[float]:
    """Return the median time of a forward and backward pass of each, taking turns."""
    times: list[list[float]] = [[] for _ in modules]
    for _ in range(NUM_ROUNDS + 5):
        for (module, ids), so_far in zip(modules, times, strict=True):
            started_s = time.perf_counter()
            module(ids).backward()
            if ids.is_cuda:
                torch.cuda.synchronize()
            so_far.append(time.perf_counter() - started_s)
    return [1e3 * statistics.median(so_far[5:]) for so_far in times]


if __name__ == "__main__":
    main()
