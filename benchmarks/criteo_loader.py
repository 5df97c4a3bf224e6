"""Rows per second of the Criteo loader against parsing the public text directly, and how its memory behaves.

Both produce the tensors of a training batch (counts, hash buckets, labels, weights). The text side is the parser
that ``prepare`` uses: array arithmetic without a Python object per row, so the ratio is against fast parsing.

    python benchmarks/criteo_loader.py [--rows 400000] [--batch 16384]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from perfbench.api.workload import Shard
from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.criteo import planted, prepare, tsv
from perfbench.workloads.criteo.workload import CriteoWorkload

NUM_ROUNDS = 5
MEMORY_BATCH = 4096
NUM_SIZES = 3
"""The data grows by a factor of four from size to size."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=16_384)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.read:
        read_all(arguments.read)
        return
    with tempfile.TemporaryDirectory() as folder:
        report(Path(folder), arguments)


def report(root: Path, arguments: argparse.Namespace) -> None:
    """Print the rates, their ratio, and memory by data size."""
    sizes = [arguments.rows // 4**power for power in reversed(range(NUM_SIZES))]
    memory = Table("rows stored", "on disk", "memory of our own after reading all", "mapped pages of files")
    rates: list[tuple[float, float]] = []
    for size in sizes:
        raw, workload, stored_bytes = prepared(root / str(size), size)
        if size == sizes[-1]:
            rates = [(text_rate(raw), loader_rate(workload, arguments.batch, size)) for _ in range(NUM_ROUNDS)]
        own_bytes, mapped_bytes = bytes_after_reading(root / str(size))
        cells = (stored_bytes, own_bytes, mapped_bytes)
        memory.add_row(f"{size:,}", *(f"{value / 1e6:,.0f} MB" for value in cells))
    table = Table("rows per second, one core", "median", "least", "most")
    columns = {"parsing text": [r[0] for r in rates], "binary loader": [r[1] for r in rates]}
    for name, values in columns.items():
        table.add_row(name, *(f"{value:,.0f}" for value in (statistics.median(values), min(values), max(values))))
    ratios = [loader / text for text, loader in rates]
    table.add_row("ratio", *(f"{value:.1f}" for value in (statistics.median(ratios), min(ratios), max(ratios))))
    console = Console()
    console.print(table)
    console.print(memory)


def prepared(root: Path, num_rows: int) -> tuple[Path, CriteoWorkload, int]:
    """Write planted rows as text, convert them, and open the workload."""
    raw, stored = root / "raw", root / "stored"
    raw.mkdir(parents=True)
    planted.write_rows(raw, lambda *_: None, seed=0, num_train_rows=num_rows, num_held_out_rows=3_600)
    spec = any_size()
    request = PrepareRequest(workload=spec, destination=stored, source=raw, progress=lambda *_: None, options={})
    manifest = prepare.prepare(request)
    stored_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    return raw, CriteoWorkload(spec, stored), stored_bytes


def any_size() -> WorkloadSpec:
    """Return the planted workload without the number of rows that it asserts."""
    base = compose_workload("criteo", scale="mini", dataset="planted")
    changed = {"order": "files", "expected_examples": {}}
    return WorkloadSpec.from_mapping(base.model_dump(mode="json") | {"params": base.params | changed})


def bytes_after_reading(root: Path) -> tuple[int, int]:
    """Read everything in a fresh process; return its own memory and its mapped pages."""
    command = [sys.executable, __file__, "--read", str(root)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(output[-2]), int(output[-1])


def read_all(root: Path) -> None:
    """Read every row in batches of a fixed size and print resident memory."""
    workload = CriteoWorkload(any_size(), root / "stored")
    loader_rate(workload, MEMORY_BATCH, int(root.name))
    print(*resident_bytes())


def text_rate(raw: Path) -> float:
    """Parse all training text into batch tensors; return rows per second."""
    started_s, num_rows = time.perf_counter(), 0
    for path in sorted(raw.glob("day_[0-9]_00")):
        rows = tsv.parse(path.read_bytes(), where=path.name)
        tensors = [torch.from_numpy(array) for array in (rows.integers, rows.buckets)]
        tensors.append(torch.from_numpy(rows.labels).to(torch.float32))
        num_rows += len(rows)
    return num_rows / (time.perf_counter() - started_s)


def loader_rate(workload: CriteoWorkload, batch: int, num_rows: int) -> float:
    """Read at least one epoch through the training stream; return rows per second."""
    batch = min(batch, num_rows // 4)
    stream = workload.train_batches(global_batch_size=batch, seed=0, shard=Shard())
    num_batches = max(num_rows // batch, 50)
    started_s = time.perf_counter()
    for _ in range(num_batches):
        next(stream)
    rate = num_batches * batch / (time.perf_counter() - started_s)
    stream.close()
    return rate


def resident_bytes() -> tuple[int, int]:
    """Return this process's own resident memory, and its resident pages of mapped files (Linux)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
