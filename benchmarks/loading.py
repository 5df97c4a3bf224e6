"""What a rank's input pipeline costs: examples of the training stream per second of one core, for any workload.

Where the data has a plain reference or an alternative form, the two are compared in turns: images against PIL and
torchvision's transforms, speech against decoding FLAC on the fly. Padding is counted where batches are packed.

    python -m benchmarks.loading [WORKLOAD ...] [--rounds 7]
"""

from __future__ import annotations

import argparse
import itertools
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

NUM_BATCHES = 8


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
    table = Table("workload", "data", "batch", "examples per core second", "least", "most", "what is not padding")
    opened = {name: opened_workload(name, arguments.data_root.resolve()) for name in names}
    for name, workload in opened.items():
        rates, batch = stream_rates(workload, arguments.rounds)
        cells = (statistics.median(rates), min(rates), max(rates))
        size = workload.spec.reference_batch_size
        table.add_row(name, workload.spec.dataset, f"{size:,}", *(f"{rate:,.0f}" for rate in cells), fill_of(batch))
    console.print(table)
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


def stream_rates(workload: Workload, rounds: int) -> tuple[list[float], Batch]:
    """Return examples per second of processor time, by round, and one batch."""
    size = workload.spec.reference_batch_size
    stream = workload.train_batches(global_batch_size=size, seed=0, shard=Shard())
    batch = next(stream)
    rates = []
    for number in range(rounds):
        started_s, num_examples = time.process_time(), 0
        for index in itertools.count():
            batch = next(stream)
            num_examples += len(stream.example_ids(number * NUM_BATCHES + index))
            if index >= NUM_BATCHES and time.process_time() - started_s > 0.3:
                break
        rates.append(num_examples / (time.process_time() - started_s))
    stream.close()
    return rates, batch


def fill_of(batch: Batch) -> str:
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
    return ", ".join(f"{name.removesuffix('_segments')} {share:.1%}" for name, share in shares.items()) or "all"


if __name__ == "__main__":
    main()
