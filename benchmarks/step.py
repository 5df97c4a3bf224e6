"""A training step (loss and backward) of a workload's model compiled whole, against the straightforward versions.

``eager``: the same model and loss without a compiler. ``library``: what a person would take from torch or torchvision
for the task, eager as well, where such a model exists (`library_models.py`). All get the same batch, in turns.

    python -m benchmarks.step WORKLOAD [key=value ...] [--batch 64] [--rounds 15]
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.interleaved import ratios, summary, timed
from benchmarks.library_models import library_loss
from perfbench.api.workload import Batch, Shard, Workload
from perfbench.compose import compose_run
from perfbench.data.prefetch import moved_to
from perfbench.engine.trainer.compiling import bind_loss
from perfbench.engine.wire.team import Solo
from perfbench.launch.preflight import ensure_data
from perfbench.registry import build_workload

BLOCK_S = 0.3
"""What is timed at a time, about: single steps of a millisecond tell more of the machine than of the step."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. workload.params.width=256")
    parser.add_argument("--batch", type=int, help="examples; the workload's reference batch otherwise")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    arguments = parser.parse_intermixed_args()
    spec = compose_run([f"workload={arguments.workload}", *arguments.overrides]).workload
    ensure_data(spec, arguments.data_root.resolve(), lambda *_: None, may_prepare=True)
    workload = build_workload(spec, arguments.data_root.resolve())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    batch = first_batch(workload, arguments.batch or spec.reference_batch_size, device)
    ways = steps(workload, batch, device)
    repeats = max(1, math.ceil(BLOCK_S / slowest_step_s(ways)))
    seconds = timed({name: repeated(step, repeats) for name, step in ways.items()}, rounds=arguments.rounds)
    table = Table("step", "ms, median", "least", "most", "compiled over it", "least", "most")
    for name, values in seconds.items():
        against = summary(ratios(seconds, "compiled", name), ".3f")
        table.add_row(name, *summary([1e3 * value / repeats for value in values], ".2f"), *against)
    console = Console()
    console.print(table)
    worst = max(statistics.median(ratios(seconds, "compiled", name)) for name in seconds if name != "compiled")
    console.print(
        f"{spec.name}, {spec.scale.value}, {spec.dataset}, {device.type}: {arguments.rounds} rounds of {repeats} steps "
        f"in turns; compiled over the fastest other: {worst:.3f}"
    )


def slowest_step_s(ways: dict[str, Callable[[], None]]) -> float:
    """Compile, then return how long a step of the slowest version takes."""
    for step in ways.values():
        step()
    return max(values[-1] for values in timed(ways, rounds=2).values())


def repeated(step: Callable[[], None], count: int) -> Callable[[], None]:
    """Return what makes so many steps."""

    def block() -> None:
        for _ in range(count):
            step()

    return block


def first_batch(workload: Workload, size: int, device: torch.device) -> Batch:
    """Return the first training batch of seed 0."""
    stream = workload.train_batches(global_batch_size=size, seed=0, shard=Shard())
    try:
        return next(moved_to(device, stream))
    finally:
        stream.close()


def steps(workload: Workload, batch: Batch, device: torch.device) -> dict[str, Callable[[], None]]:
    """Return what to time: forward and backward of each version, with models of their own."""
    own, plain = (workload.build_model(seed=0).to(device).train() for _ in range(2))
    compiled = bind_loss(workload, own, Solo())

    def compiled_loss() -> Tensor:
        return compiled(batch, label_smoothing=0.0).summed

    losses = {"compiled": compiled_loss, "eager": lambda: workload.loss(plain, batch).summed}
    library = library_loss(workload, batch, device)
    if library is not None:
        losses["library, eager"] = library
    return {name: lambda loss=loss: loss().backward() for name, loss in losses.items()}  # type: ignore[misc]


if __name__ == "__main__":
    main()
