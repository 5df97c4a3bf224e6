"""What is worth knowing on a GPU machine that is at hand for minutes: one command, in order of value, within a budget.

    python -m benchmarks.visit [SECONDS] --out FOLDER [--only doctor,tests,step:wmt] [--precision bf16]

Runs ``perfbench doctor --gpu``, the tests marked ``gpu``, and ``perfbench bench step`` of every workload at full scale
on invented batches; no data is needed. Each is a process of its own with a limit of its own: one that hangs or fails
costs itself only. ``FOLDER`` gets each one's output, what the steps saw, and ``visit.json``, written anew after each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perfbench.registry import repository_root, workload_families
from perfbench.results.files import write_text_atomically

_FIRST_STEPS = ("librispeech_deepspeech", "librispeech_conformer", "criteo", "wmt")
"""What changed most, or costs most; the others follow."""
_STEP_LIMIT_S = 150.0
_LEAST_S = 20.0
"""What is begun with less left would only be cut off."""
_LAST_CHARACTERS = 300


@dataclass(kw_only=True)
class Part:
    """A part of a visit and how it ended."""

    name: str
    command: list[str]
    limit_s: float
    status: str = "no time"
    seconds: float = 0.0
    last_line: str = ""


def main() -> int:
    """Run the parts and print how each ended; 1 if one found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=540.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", type=lambda text: text.split(","), help="names, or their part before the colon")
    parser.add_argument("--precision", help="of the steps; the ruleset's otherwise")
    arguments = parser.parse_args()
    ends_s = time.monotonic() + arguments.seconds
    arguments.out.mkdir(parents=True, exist_ok=True)
    parts = [part for part in planned(arguments.out, arguments.precision) if is_wanted(part.name, arguments.only)]
    for part in parts:
        run(part, arguments.out, left_s=ends_s - time.monotonic())
        records = [asdict(one) for one in parts]
        write_text_atomically(arguments.out / "visit.json", json.dumps(records, indent=2) + "\n")
    table = Table("part", "", "s", "last line")
    for part in parts:
        table.add_row(part.name, part.status, f"{part.seconds:.0f}", part.last_line)
    Console().print(table)
    return int(any(part.status != "ok" for part in parts))


def planned(out: Path, precision: str | None) -> Iterator[Part]:
    """Yield the parts in order of value."""
    yield Part(name="doctor", command=["-m", "perfbench", "doctor", "--gpu"], limit_s=90.0)
    pytest = [
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu and not slow",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        *files_with_gpu_tests(),
    ]
    yield Part(name="tests", command=pytest, limit_s=240.0)
    others = [name for name in workload_families() if name not in _FIRST_STEPS]
    for name in [*(name for name in _FIRST_STEPS if name in workload_families()), *others]:
        chosen = ["--precision", precision] if precision else []
        seen = ["--json", str(out / f"step_{name}.json")]
        command = ["-m", "perfbench", "bench", "step", name, "--synthetic", *chosen, *seen]
        yield Part(name=f"step:{name}", command=command, limit_s=_STEP_LIMIT_S)
    for name in _FIRST_STEPS:
        seen = ["--json", str(out / f"deterministic_{name}.json")]
        command = ["-m", "perfbench", "bench", "step", name, "--synthetic", "--deterministic", "--no-eager", *seen]
        yield Part(name=f"deterministic:{name}", command=command, limit_s=_STEP_LIMIT_S)


def files_with_gpu_tests() -> list[str]:
    """Return the test files that have one: others may need packages that the machine lacks."""
    files = sorted((repository_root() / "tests").rglob("test_*.py"))
    return [str(path.relative_to(repository_root())) for path in files if "mark.gpu" in path.read_text()]


def is_wanted(name: str, only: list[str] | None) -> bool:
    """Tell whether a part is among those asked for."""
    return only is None or name in only or name.partition(":")[0] in only


def run(part: Part, out: Path, *, left_s: float) -> None:
    """Run a part within its limit and what is left, its output into a file."""
    if left_s < _LEAST_S:
        return
    started_s = time.monotonic()
    log = out / f"{part.name.replace(':', '_')}.log"
    root = repository_root()
    paths = os.pathsep.join([str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")])
    with log.open("wb") as output:
        try:
            ended = subprocess.run(
                [sys.executable, *part.command],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=root,
                env=os.environ | {"PYTHONPATH": paths},
                check=False,
                timeout=min(part.limit_s, left_s),
            )
            part.status = "ok" if ended.returncode == 0 else f"failed ({ended.returncode})"
        except subprocess.TimeoutExpired:
            part.status = "limit"
    part.seconds = time.monotonic() - started_s
    lines = log.read_text(errors="replace").strip().splitlines()
    part.last_line = lines[-1][-_LAST_CHARACTERS:] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
