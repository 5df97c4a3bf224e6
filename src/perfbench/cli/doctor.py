"""``perfbench doctor``: can this machine run trials, and what will it be slow at."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from perfbench.cli.isolation_checks import isolation_levels, referee_memory
from perfbench.cli.listing import Listing, print_listing
from perfbench.errors import ExitCode
from perfbench.inherited import withheld
from perfbench.results.locks import held, is_held

_PACKAGES = ("torch", "numpy", "pydantic", "hydra-core", "polars")
_RESOLUTION_SAMPLES = 1000
_TWO_RANKS = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo", init_method=os.environ["RENDEZVOUS"], rank=int(os.environ["RANK"]), world_size=2)
value = torch.ones(1)
dist.all_reduce(value)
assert value.item() == 2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--runs-root", type=Path, default=Path("runs"))
    parser.add_argument(
        "--gpu", action="store_true", help="look closely at the first GPU: precision, generators, nccl, prefetch, speed"
    )


def run(arguments: argparse.Namespace) -> int:
    """Look at everything a trial needs, and name what is looked at; exit with 1 if something is missing."""
    console = Console(soft_wrap=True)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        *[(package, _version_of(package)) for package in _PACKAGES],
        ("compiler", _compiler),
        ("devices", _devices),
        ("process group", _process_group),
        ("clock", _clock),
        ("data disk", lambda: _disk(arguments.data_root)),
        ("runs disk", lambda: _disk(arguments.runs_root)),
        ("locks", lambda: _locks(arguments.runs_root)),
        ("environment", _environment),
        ("isolation", isolation_levels),
        ("a referee's memory", referee_memory),
    ]
    if arguments.gpu:
        checks += importlib.import_module("perfbench.cli.gpu_checks").checks()
    table = Listing(["what", "", "found"])
    num_problems = 0
    with console.status("looking") as status:
        for name, check in checks:
            status.update(f"looking at {name}")
            try:
                table.add(name, "[green]ok[/]", escape(check()))
            except Exception as problem:  # noqa: BLE001 - whatever is wrong with a machine is a finding
                num_problems += 1
                table.add(name, "[red]problem[/]", escape(str(problem).splitlines()[0]))
    print_listing(console, table)
    return int(ExitCode.RUN_FAILED if num_problems else ExitCode.DONE)


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _version_of(package: str) -> Callable[[], str]:
    return lambda: importlib.metadata.version(package)


def _compiler() -> str:
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        message = "no C++ compiler: torch.compile needs one on a CPU (Debian: apt-get install g++)"
        raise RuntimeError(message)
    return found


def _devices() -> str:
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return "no GPU: trials run on the CPU, for development only"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{len(names)} x {names[0]}, CUDA {torch.version.cuda}"


def _process_group() -> str:
    """Let two processes of this machine add a number."""
    rendezvous = Path(f"/tmp/perfbench-doctor-{time.monotonic_ns()}")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _TWO_RANKS],
            env={
                "RANK": str(rank),
                "RENDEZVOUS": f"file://{rendezvous}",
                "GLOO_SOCKET_IFNAME": "lo",
                "PATH": "/usr/bin:/bin",
            },
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=60)[1] for rank in ranks]
    finally:
        rendezvous.unlink(missing_ok=True)
        for rank in ranks:
            rank.kill()
    if any(rank.returncode for rank in ranks):
        last = errors[0].decode(errors="replace").strip().splitlines()[-1:]
        message = f"two gloo ranks could not talk: {' '.join(last)}"
        raise RuntimeError(message)
    return "two gloo ranks on this machine"


def _clock() -> str:
    """Measure the resolution of the clock that a referee reads, and what reading it costs."""
    from perfbench.engine.referee.clock import raw_ns

    readings = [raw_ns() for _ in range(_RESOLUTION_SAMPLES)]
    steps = [later - earlier for earlier, later in itertools.pairwise(readings)]
    assert min(steps) >= 0, "the clock ran backwards"
    return f"monotonic, {sorted(steps)[len(steps) // 2]} ns per reading"


def _locks(folder: Path) -> str:
    """Hold a lock and see that it is held: some network disks are mounted without."""
    probe = _existing(folder) / f".perfbench-doctor-{time.monotonic_ns()}.lock"
    try:
        with held(probe, busy="a new file is locked already"):
            assert is_held(probe), "a lock that is held is not seen"
    finally:
        probe.unlink(missing_ok=True)
    return "held and seen on the runs disk"


def _environment() -> str:
    """Name the switches that are set here: what they would change is not measured."""
    names = withheld(os.environ)
    return f"ranks do not inherit {', '.join(names)}" if names else "no switch that could change what is measured"


def _existing(folder: Path) -> Path:
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    return existing


def _disk(folder: Path) -> str:
    existing = _existing(folder)
    probe = existing / f".perfbench-doctor-{time.monotonic_ns()}"
    probe.write_bytes(b"x")
    probe.unlink()
    return f"{existing}: {shutil.disk_usage(existing).free / 1e9:.0f} GB free, writable"
