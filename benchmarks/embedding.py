"""The embedding lookup of the Criteo model, three ways: what compiles whole, and what a step costs.

``nn.Embedding`` (one table, 26 rows per example) against torchrec's ``EmbeddingBagCollection`` on a
``KeyedJaggedTensor`` with one table per column of the same shared width. Forward and backward, dense gradients.

    make bench-embedding
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

NUM_COLUMNS = 26
NUM_ROUNDS = 30


class OneTable(nn.Module):
    """The published form: all columns index one table."""

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_rows, width)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the sum over all values for ids ``[b, 26]``."""
        total: Tensor = self.table(ids).sum()
        return total


class Collection(nn.Module):
    """torchrec: bags of one id, all features on one shared table."""

    def __init__(self, num_rows: int, width: int, lengths_dtype: torch.dtype) -> None:
        super().__init__()
        from torchrec import EmbeddingBagCollection, EmbeddingBagConfig

        self.names = [f"c{column}" for column in range(NUM_COLUMNS)]
        config = EmbeddingBagConfig(
            name="table", embedding_dim=width, num_embeddings=num_rows, feature_names=self.names
        )
        self.collection = EmbeddingBagCollection(tables=[config])
        self.lengths_dtype = lengths_dtype

    def forward(self, ids: Tensor) -> Tensor:
        """Return the sum over all values for ids ``[b, 26]``."""
        from torchrec import KeyedJaggedTensor

        lengths = torch.ones(ids.numel(), dtype=self.lengths_dtype, device=ids.device)
        jagged = KeyedJaggedTensor(keys=self.names, values=ids.T.reshape(-1), lengths=lengths)
        total: Tensor = self.collection(jagged).values().sum()
        return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2_048)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, width = arguments.rows, arguments.width
    ways: list[tuple[str, Callable[[], nn.Module], torch.dtype]] = [
        ("nn.Embedding, int32 ids", lambda: OneTable(rows, width), torch.int32),
        ("torchrec, int64 lengths", lambda: Collection(rows, width, torch.int64), torch.int64),
        ("torchrec, int32 lengths", lambda: Collection(rows, width, torch.int32), torch.int64),
    ]
    table = Table("lookup", "eager", "compiled whole", "graph")
    for name, build, ids_dtype in ways:
        ids = torch.randint(0, rows, (arguments.batch, NUM_COLUMNS), dtype=ids_dtype)
        table.add_row(name, *row(build, ids))
    console = Console()
    console.print(table)
    console.print(
        f"{arguments.batch:,} examples, table {rows:,} x {width}; forward and backward, median of {NUM_ROUNDS}"
    )


def row(build: Callable[[], nn.Module], ids: Tensor) -> tuple[str, str, str]:
    """Return eager time, compiled time, and what compiling did."""
    try:
        eager = f"{step_ms(build(), ids):.2f} ms"
    except Exception as problem:  # noqa: BLE001 - what fails is the finding
        return first_line(problem), "-", "-"
    try:
        compiled = torch.compile(build(), fullgraph=True, dynamic=False)
        return eager, f"{step_ms(compiled, ids):.2f} ms", "one graph"
    except Exception as problem:  # noqa: BLE001 - what fails is the finding
        return eager, "-", first_line(problem)


def step_ms(module: Callable[[Tensor], Tensor], ids: Tensor) -> float:
    """Return the median time of a forward and backward pass."""
    times = []
    for _ in range(NUM_ROUNDS + 5):
        started_s = time.perf_counter()
        module(ids).backward()
        times.append(time.perf_counter() - started_s)
    return 1e3 * statistics.median(times[5:])


def first_line(problem: Exception) -> str:
    """Return what kind of error it was, and its first line."""
    return f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:80]}"


if __name__ == "__main__":
    main()
