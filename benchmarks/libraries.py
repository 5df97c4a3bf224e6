"""Parts of the workloads that a library has too: each one's number on the same input, the difference, and the time.

    make bench-libraries [ARGS="--only speech"]

``number`` is the mean of what a part returns. ``largest difference`` is that of an element, or of the means where both
draw by themselves. ``time`` is the library's over ours, the median over rounds in which both take turns; of compiled
parts as one graph (or the library's as it is, where that cannot be: "splits"), with the backward pass where there is
one. On a CPU processor time counts (``benchmarks/interleaved.py``).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.interleaved import ratios, timed
from benchmarks.library_parts import images, others, speech
from benchmarks.library_parts.part import Part

GROUPS: dict[str, Callable[[], list[Part]]] = {"speech": speech.parts, "images": images.parts, "others": others.parts}
NUM_ROUNDS = 11
NUM_DRAWS = 30
"""Of a part that draws by itself: the mean over so many is compared."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=GROUPS, help="one group of parts")
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("part", "library's call", "number", "library's", "largest difference", "time", "used")
    for name, parts in GROUPS.items():
        if arguments.only in (None, name):
            for part in parts():
                measured = row(part, arguments.rounds)
                print(part.name, *measured, flush=True)
                table.add_row(part.name, part.call, *measured, part.decision)
    Console(width=200).print(table)


def row(part: Part, rounds: int) -> tuple[str, str, str, str]:
    """Return both numbers, the difference, and the library's time over ours."""
    torch.manual_seed(0)
    ours = part.ours().detach().double()
    try:
        theirs = part.theirs().detach().double()
    except Exception as problem:  # noqa: BLE001 - that it cannot run here is the finding
        return f"{float(ours.mean()):.6g}", "-", f"{type(problem).__name__}: {str(problem)[:40]}", "-"
    if part.is_random:
        number, other = _mean_of_draws(part.ours), _mean_of_draws(part.theirs)
        difference = abs(number - other)
    else:
        number, other = float(ours.mean()), float(theirs.mean())
        difference = float((ours - theirs).abs().max())
    time, remark = _time(part, rounds)
    return f"{number:.6g}", f"{other:.6g}", f"{difference:.2g}", f"{time:.2f}{remark}"


def _mean_of_draws(call: Callable[[], Tensor]) -> float:
    return statistics.mean(float(call().double().mean()) for _ in range(NUM_DRAWS))


def _time(part: Part, rounds: int) -> tuple[float, str]:
    """Return the library's time over ours, and a remark."""
    remark = ""
    calls = {"ours": part.ours, "theirs": part.theirs}
    if part.is_compiled:
        for name, call in calls.items():
            torch.compiler.reset()
            compiled = torch.compile(call, fullgraph=True, dynamic=False)
            try:
                _run(compiled, part)
                calls[name] = compiled
            except torch._dynamo.exc.Unsupported:  # noqa: SLF001 - has no other name
                remark = " (splits)" if name == "theirs" else " (ours splits)"
    spent = timed({name: partial(_run, call, part) for name, call in calls.items()}, rounds=rounds)
    return statistics.median(ratios(spent, "theirs", "ours")), remark


def _run(call: Callable[[], Tensor], part: Part) -> None:
    out = call()
    if part.has_gradient:
        out.square().mean().backward()


if __name__ == "__main__":
    main()
