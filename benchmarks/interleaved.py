"""Several ways to do the same, timed in turns in one process: what else the machine does hits all of them alike.

On a CPU the processor time of this process counts, not the wall: on a busy machine only that tells what work costs.
On a GPU the wall counts, with the device drained before and after.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from rich.table import Table

Seconds = dict[str, list[float]]
"""Of each way, by round."""


def timed(ways: Mapping[str, Callable[[], object]], *, rounds: int, discarded: int = 1) -> Seconds:
    """Run every way once in every round; the order turns round, the first rounds do not count."""
    seconds: Seconds = {name: [] for name in ways}
    for number in range(discarded + rounds):
        names = list(ways) if number % 2 == 0 else list(ways)[::-1]
        for name in names:
            spent_s = _seconds_of(ways[name])
            if number >= discarded:
                seconds[name].append(spent_s)
    return seconds


def ratios(seconds: Seconds, name: str, to: str) -> list[float]:
    """Return one way's time over another's, round by round."""
    return [one / other for one, other in zip(seconds[name], seconds[to], strict=True)]


def summary(values: list[float], form: str) -> tuple[str, str, str]:
    """Return median, least and most as text."""
    return tuple(format(value, form) for value in (statistics.median(values), min(values), max(values)))  # type: ignore[return-value]


def rate_table(title: str, seconds: Seconds, *, amount: float, unit: str, base: str) -> Table:
    """Return ``amount / seconds`` of each way, and each way's rate over that of ``base``."""
    table = Table(title, f"{unit}, median", "least", "most", f"x of {base}")
    for name, spent in seconds.items():
        rates = [amount / one for one in spent]
        ratio = statistics.median(ratios(seconds, base, name))
        table.add_row(name, *summary(rates, ",.1f" if min(rates) < 100 else ",.0f"), f"{ratio:.2f}")
    return table


def _seconds_of(way: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        started_s = time.perf_counter()
        way()
        torch.cuda.synchronize()
        return time.perf_counter() - started_s
    started_s = time.process_time()
    way()
    return time.process_time() - started_s
