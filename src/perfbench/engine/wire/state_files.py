"""Where the ranks' saved states are: written by trainers, counted and named by the referee."""

from __future__ import annotations

from pathlib import Path

from perfbench.api.workload import Shard


def state_file(folder: Path, shard: Shard) -> Path:
    """Return the file of one rank in the folder of one saved state."""
    return folder / f"rank_{shard.rank}.pt"
