"""``perfbench bench step WORKLOAD``: how fast a whole training step is, at any scale, with or without data."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from perfbench.compose import compose_run
from perfbench.errors import ExitCode, LaunchError
from perfbench.launch.preflight import ensure_data
from perfbench.registry import build_workload, repository_root, submission_builder
from perfbench.results.files import write_text_atomically
from perfbench.spec.ruleset import Precision
from perfbench.spec.workload import ScaleName
from perfbench.tuning.sampler import points_for_study

if TYPE_CHECKING:
    from perfbench.api.workload import Batch, Workload

_COMPETITION_RANKS = 8
_NUM_BATCHES = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("what", choices=["step"])
    parser.add_argument("workload")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. workload.params.dropout_rate=0.1")
    parser.add_argument("--scale", choices=[scale.value for scale in ScaleName], default=ScaleName.FULL.value)
    parser.add_argument("--synthetic", action="store_true", help="invented batches: no data is needed")
    parser.add_argument("--batch", type=int, help="examples of this device; its share of the reference batch otherwise")
    parser.add_argument(
        "--ranks", type=int, help=f"devices that share the reference batch: {_COMPETITION_RANKS} at full scale, else 1"
    )
    parser.add_argument("--precision", choices=[precision.value for precision in Precision])
    parser.add_argument("--deterministic", action="store_true", help="the same bits again on a GPU: what does it cost?")
    parser.add_argument(
        "--submission", help="whose step, at the first point of its first study; as configs/run.yaml says otherwise"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="to time each kind of step for")
    parser.add_argument("--no-eager", action="store_true", help="leave out the step that is not compiled")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--json", type=Path, help="write what was seen into this file")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print, with a line before whatever can take minutes at full scale."""
    whole_step = _benchmark("whole_step")
    import torch

    from perfbench.engine.wire.determinism import require_determinism

    request = compose_run(_overrides(arguments))
    spec = request.workload
    console = Console(soft_wrap=True)
    console.print(f"  building {spec.name} at scale {spec.scale.value}")
    num_ranks = arguments.ranks or (_COMPETITION_RANKS if spec.scale is ScaleName.FULL else 1)
    size = arguments.batch or max(1, spec.reference_batch_size // num_ranks)
    data_root = arguments.data_root.resolve()
    if not arguments.synthetic:
        ensure_data(spec, data_root, lambda *_: None, may_prepare=request.scale.prepare_data)
    workload = build_workload(spec, data_root)
    batches = _batches(workload, arguments, size, num_ranks)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(request.scale.threads_per_rank or 1)
    precision = request.ruleset.precision
    if request.deterministic:
        require_determinism()
    step = whole_step.WholeStep(workload, batches, batch_size=size, precision=precision, device=device)
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    title = (
        f"{spec.name} at scale {spec.scale.value}, {whole_step.num_parameters(step.model):,} parameters, "
        f"{'invented' if arguments.synthetic else spec.dataset} batches of {size}, {precision.value}, "
        f"{'deterministic, ' if request.deterministic else ''}"
        f"{request.submission.name}, {on}, torch {torch.__version__}"
    )
    console.print(title)
    point = points_for_study(request.submission, request.ruleset, study=0, run_seed=0)[0]
    found = step.measured(
        submission_builder(request.submission, point),
        for_s=arguments.seconds,
        with_eager=not arguments.no_eager,
        tell=lambda what: console.print(f"  {what}"),
    )
    console.print(_table(dataclasses.asdict(found)))
    if arguments.json is not None:
        record = {"title": title, **dataclasses.asdict(found)}
        write_text_atomically(arguments.json, json.dumps(record, indent=2) + "\n")
    return int(ExitCode.DONE)


def _overrides(arguments: argparse.Namespace) -> list[str]:
    chosen = [f"workload={arguments.workload}", f"scale={arguments.scale}"]
    if arguments.submission is not None:
        chosen.append(f"submission={arguments.submission}")
    if arguments.precision is not None:
        chosen.append(f"ruleset.precision={arguments.precision}")
    if arguments.deterministic:
        chosen.append("deterministic=true")
    return [*chosen, *arguments.overrides]


def _batches(workload: Workload, arguments: argparse.Namespace, size: int, num_ranks: int) -> list[Batch]:
    """Return training batches on the CPU."""
    if arguments.synthetic:
        return [
            workload.synthetic_batch(batch_size=size, seed=seed, num_ranks=num_ranks) for seed in range(_NUM_BATCHES)
        ]
    from perfbench.api.workload import Shard

    shard = Shard(num_ranks=num_ranks)
    stream = workload.train_batches(global_batch_size=size * num_ranks, seed=0, shard=shard)
    try:
        return [next(stream) for _ in range(_NUM_BATCHES)]
    finally:
        stream.close()


def _table(found: dict[str, Any]) -> Table:
    table = Table("what", "seen")
    for name, value in found.items():
        if value is None:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{place} {count}" for place, count in value.items()) or "none"  # noqa: PLW2901
        text = f"{value:,.4g}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), text)
    return table


def _benchmark(name: str) -> Any:  # noqa: ANN401 - a module, of this repository and not of the installed package
    root = repository_root()
    if not (root / "benchmarks" / f"{name}.py").exists():
        raise LaunchError(
            "benchmarks are not part of the installed package",
            where=str(root / "benchmarks"),
            hint="run it in a checkout of the repository",
        )
    if str(root) not in sys.path:
        sys.path.append(str(root))
    return importlib.import_module(f"benchmarks.{name}")
