"""How far the mini board ranks as the published ones do: by what both have, with an interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.mini_plan import Wanted, facts_of
from benchmarks.mini_results import Best, Published, PublishedBoard, Results
from perfbench.results.trials import Floats
from perfbench.scoring.agreement import Pairs, pair_signs, tally
from perfbench.scoring.profile import exact_score, ratios_to_fastest
from perfbench.scoring.uncertainty import Interval, interval_of

TAU_MAX = 4.0
LEAST_ENTRIES = 6
"""With fewer no order is told from chance: of four entries one in twelve is fully in order, or fully reversed."""
_NUM_SAMPLES = 4000


class Compared(NamedTuple):
    """What of the mini board is laid beside a published one."""

    entries: tuple[str, ...]
    workloads: tuple[str, ...]
    rescaled: bool


class Correlation(NamedTuple):
    """A mini board beside a published one."""

    board: PublishedBoard
    what: Compared
    measure: str
    tau: float
    interval: Interval

    @property
    def how(self) -> str:
        """Return which points ran."""
        return "rate rescaled" if self.what.rescaled else "points as published"

    @property
    def excludes_chance(self) -> bool:
        """Tell whether the interval leaves no room for no relation at all."""
        return self.interval.low > 0 or self.interval.high < 0


def correlations(wanted: Wanted, results: Results, published: Published) -> Iterator[Correlation]:
    """Yield every published board beside the mini board: points as published and rescaled, by steps and by seconds.

    First all of its entries that have run, by the workloads that all of these have; then, if that is something else,
    the workloads that enough entries have, by the entries that have all of these.
    """
    for board in published.boards:
        for rescaled in (False, True):
            full = _of_all_entries(wanted, results, board, rescaled=rescaled)
            wide = _of_all_workloads(wanted, results, board, rescaled=rescaled)
            for what in dict.fromkeys((full, wide)):
                is_same = rescaled and not any(wanted.factor(results, name) for name in what.entries)
                if len(what.entries) < LEAST_ENTRIES or not what.workloads or is_same:
                    continue
                scores = np.array([board.scores[name] for name in what.entries])
                for measure in _measures(wanted, results, what):
                    own = exact_score(ratios(wanted, results, what, measure), tau_max=TAU_MAX)
                    tau, interval = _tau(own, scores)
                    yield Correlation(board, what, measure, tau, interval)


def _of_all_entries(wanted: Wanted, results: Results, board: PublishedBoard, *, rescaled: bool) -> Compared:
    able = [one for one in wanted.workloads if one != wanted.rescaled_on]
    here = [name for name in board.scores if name in wanted.submissions]
    entries = tuple(name for name in here if any(_known(wanted, results, one, name, rescaled=rescaled) for one in able))
    workloads = tuple(
        one for one in able if all(_known(wanted, results, one, name, rescaled=rescaled) for name in entries)
    )
    return Compared(entries, workloads, rescaled)


def _of_all_workloads(wanted: Wanted, results: Results, board: PublishedBoard, *, rescaled: bool) -> Compared:
    here = [name for name in board.scores if name in wanted.submissions]
    have = {
        one: {name for name in here if _known(wanted, results, one, name, rescaled=rescaled)}
        for one in wanted.workloads
        if one != wanted.rescaled_on
    }
    workloads = tuple(one for one, names in have.items() if len(names) >= LEAST_ENTRIES)
    entries = tuple(name for name in here if workloads and all(name in have[one] for one in workloads))
    return Compared(entries, workloads, rescaled)


def _measures(wanted: Wanted, results: Results, what: Compared) -> Sequence[str]:
    """Return by what one may rank: seconds only where all of a workload are of one machine and engine."""
    for workload in what.workloads:
        cells = [best(wanted, results, workload, name, rescaled=what.rescaled) for name in what.entries]
        if len({(cell.ran.machine, cell.ran.engine) for cell in cells if cell is not None}) > 1:
            return ("steps",)
    return ("steps", "seconds")


def ratios(wanted: Wanted, results: Results, what: Compared, measure: str) -> Floats:
    """Return steps or seconds to the target over the fewest: ``[entry, workload]``."""
    rows = []
    for name in what.entries:
        cells = [best(wanted, results, one, name, rescaled=what.rescaled) for one in what.workloads]
        rows.append([np.inf if cell is None else getattr(cell, measure) for cell in cells])
    return ratios_to_fastest(np.array(rows))


def _tau(first: Floats, second: Floats, *, seed: int = 0) -> tuple[float, Interval]:
    """Return tau-b and its interval: entries drawn with replacement, a pair as often as both of it."""
    pairs = Pairs.of(len(first))
    signs = [pair_signs(scores[:, None], np.ones((1, 1)), pairs) for scores in (first, second)]
    drawn = np.random.default_rng(seed).multinomial(len(first), np.full(len(first), 1 / len(first)), _NUM_SAMPLES)
    weights = (drawn[:, pairs.first] * drawn[:, pairs.second]).astype(np.float64)
    samples = tally(signs[0], signs[1], weights).tau()[:, 0]
    return float(tally(signs[0], signs[1]).tau()[0]), interval_of(samples, 0.95)


def best(wanted: Wanted, results: Results, workload: str, name: str, *, rescaled: bool) -> Best | None:
    """Return a cell; rescaled with factor 1 and without a rate it is what was published."""
    if not rescaled:
        return wanted.best(results, workload, name)
    factor = wanted.factor(results, name)
    if factor is None:
        return None if facts_of(name).has_rate else wanted.best(results, workload, name)
    return wanted.best(results, workload, name, factor)


def _known(wanted: Wanted, results: Results, workload: str, name: str, *, rescaled: bool) -> Best | None:
    """Return a cell if nothing that may still run changes it."""
    found = best(wanted, results, workload, name, rescaled=rescaled)
    return found if found is not None and found.is_over else None
