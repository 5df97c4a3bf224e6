"""What a rank's input pipeline costs: examples of the training stream per second of one core, for any workload.

Where the data has a plain reference or an alternative form, the two are compared in turns: images against PIL and
torchvision's transforms, speech against decoding FLAC on the fly. Padding is counted where batches are packed.

    python -m benchmarks.loading [WORKLOAD ...] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import image_loading, speech_loading
from perfbench.api.workload import Batch, Shard, Workload
from perfbench.compose import compose_workload
from perfbench.launch.preflight import ensure_data
from perfbench.registry import build_workload, workload_families

LEAST_BATCHES, LEAST_S = 8, 0.3
"""Of a round."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help="all families otherwise")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    names = arguments.workloads or workload_families()
    table = Table()
    for column in ("workload", "data", "batch", "examples per core second", "least", "most", "what is not padding"):
        table.add_column(column, no_wrap=column in {"workload", "data"})
    texts: list[str] = []
    opened = {name: opened_workload(name, arguments.data_root.resolve()) for name in names}
    for name, workload in opened.items():
        rates, filled = stream_rates(workload, arguments.rounds)
        cells = (statistics.median(rates), min(rates), max(rates))
        size = workload.spec.reference_batch_size
        table.add_row(name, workload.spec.dataset, f"{size:,}", *(f"{rate:,.0f}" for rate in cells), mean_of(filled))
        if "row_length" in workload.spec.params:
            row_tokens = int(str(workload.spec.params["row_length"])) * filled[-1].get("target_segments", 1.0)
            texts.append(f"{name}: {cells[0] * row_tokens:,.0f} target tokens per core second")
    console.print(table)
    for text in texts:
        console.print(text)
    console.print("one reading thread; a core second is one of processor time, decoding and batching included")
    if any("crop_side" in workload.spec.params for workload in opened.values()):
        image_loading.report(console, arguments.rounds)
    if any("max_samples" in workload.spec.params for workload in opened.values()):
        speech_loading.report(console, arguments.rounds)


def opened_workload(name: str, data_root: Path) -> Workload:
    """Open a workload at mini scale, with images decoded in this process, so that its time is counted."""
    spec = compose_workload(name, scale="mini")
    ensure_data(spec, data_root, lambda *_: None, may_prepare=True)
    if "loader_processes" in spec.params:
        spec = spec.model_copy(update={"params": spec.params | {"loader_processes": 0}})
    return build_workload(spec, data_root)


def stream_rates(workload: Workload, rounds: int) -> tuple[list[float], list[dict[str, float]]]:
    """Return examples per second of processor time, and how full the batches were, by round."""
    size = workload.spec.reference_batch_size
    stream = workload.train_batches(global_batch_size=size, seed=0, shard=Shard())
    batch, num_batches = next(stream), 1
    rates, filled = [], []
    for _ in range(rounds):
        started_s, first = time.process_time(), num_batches
        while num_batches < first + LEAST_BATCHES or time.process_time() - started_s < LEAST_S:
            batch, num_batches = next(stream), num_batches + 1
        spent_s = time.process_time() - started_s
        # Batches hold different numbers of graphs or rows; read ahead are as many at the start as at the end.
        rates.append(sum(len(stream.example_ids(index)) for index in range(first, num_batches)) / spent_s)
        filled.append(shares_of(batch))
    stream.close()
    return rates, filled


def shares_of(batch: Batch) -> dict[str, float]:
    """Return which share of a batch is used, by what its masks tell."""
    found = {name: tensor > 0 for name, tensor in batch.items() if name.endswith("segments")}
    if "graph_of_atom" in batch:
        is_graph = batch["weights"].view(len(batch["atoms"]), -1) > 0
        is_atom = is_graph.gather(1, batch["graph_of_atom"].long())
        bonds = is_atom.gather(1, batch["bonds"][:, :, 0].long())
        found = {"graphs": is_graph, "atoms": is_atom, "bonds": bonds}
    shares = {name: float(mask.float().mean()) for name, mask in found.items()}
    if "num_samples" in batch:
        shares["audio"] = float(batch["num_samples"].sum() / batch["audio"].numel())
    return shares


def mean_of(filled: list[dict[str, float]]) -> str:
    """Return the mean of each share as text."""
    means = {name: statistics.mean(shares[name] for shares in filled) for name in filled[0]}
    return ", ".join(f"{name.removesuffix('_segments')} {mean:.1%}" for name, mean in means.items()) or "all"


if __name__ == "__main__":
    main()
