"""Boards of fewer workloads: what every subset costs, and how it ranks.

A submission's score is a mean over workloads, and what it gets on one does not depend on the others. So the points per
workload are computed once, and every subset's board is a mean of some of their columns: all subsets by a thousand
bootstrap samples take a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from perfbench.errors import ScoringError
from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import Floats, Integers, TrialLog
from perfbench.scoring.board import Board
from perfbench.scoring.profile import Layout, exact_score, grid_score, qualify, ratios_to_fastest

MOST_WORKLOADS = 12
"""Subsets double with each workload: 4,095 of them are a minute's work."""
LEAST_SUBMISSIONS = 4
"""With fewer there is no ranking that a subset could be chosen without one of them."""
MOST_SUBMISSIONS = 60
"""The work grows with their third power: so many are a minute or two."""


@dataclass(frozen=True, slots=True)
class TrialTimes:
    """Every trial's time to target, and what the trials cost."""

    benchmark: Benchmark
    submissions: tuple[str, ...]
    """In the board's order, the best first."""
    times_s: Floats
    """``[submission, workload, study, trial]``; infinite where the target was missed or a trial of a study is not
    there, NaN in a study that is not there."""
    spent_s: Floats
    """``[workload]``: seconds on the clock of all trials of all submissions."""

    @classmethod
    def of(cls, board: Board, logs: Sequence[TrialLog]) -> TrialTimes:
        """Take the trials that count on a board.

        Raises:
            ScoringError: If there are too few or too many submissions or workloads.
        """
        bases = board.benchmark.base_workloads()
        num_submissions = len(board.submissions)
        if not LEAST_SUBMISSIONS <= num_submissions <= MOST_SUBMISSIONS or not 1 < len(bases) <= MOST_WORKLOADS:
            raise ScoringError(
                f"{num_submissions} submissions on {len(bases)} workloads",
                where=board.benchmark.name,
                hint=f"subsets need {LEAST_SUBMISSIONS} submissions at least, {MOST_SUBMISSIONS} at most, and 2 to "
                f"{MOST_WORKLOADS} workloads; --only and --exclude choose",
            )
        names = {name: row for row, name in enumerate(board.submissions)}
        columns = {name: column for column, name in enumerate(board.benchmark.workloads)}
        studies = sorted({key.study for key in board.ends})
        trials = sorted({key.trial for key in board.ends})
        times_s = np.full((len(names), len(columns), len(studies), len(trials)), np.nan)
        for key, end in board.ends.items():
            place = (names[key.submission], columns[key.workload], studies.index(key.study), trials.index(key.trial))
            times_s[place] = end.time_s
        is_there = ~np.isnan(times_s).all(axis=-1, keepdims=True)
        times_s = np.where(is_there & np.isnan(times_s), np.inf, times_s)
        spent_s = np.zeros(len(columns))
        for log in logs:
            if log.key in board.ends and len(log):
                ended = board.ends[log.key].evaluation_index
                spent_s[columns[log.key.workload]] += log.submission_times_s[-1 if ended is None else ended]
        return cls(board.benchmark, board.submissions, times_s, spent_s)

    def study_times(self) -> Floats:
        """Return the fastest trial of each study: ``[submission, workload, study]``, NaN where there is none."""
        fastest: Floats = self.times_s.min(axis=-1)
        return fastest

    def medians(self) -> Floats:
        """Return the time that counts: ``[submission, workload]``."""
        return median_of_first(np.sort(self.study_times(), axis=-1), self.num_studies())

    def num_studies(self) -> Integers:
        """Return how many studies there are: ``[submission, workload]``."""
        return np.asarray((~np.isnan(self.study_times())).sum(axis=-1), dtype=np.int64)

    def resampled(self, num_samples: int, generator: np.random.Generator) -> Floats:
        """Draw as many studies as there are, with replacement, for every submission and workload on its own.

        Returns:
            Their medians, ``[sample, submission, workload]``.
        """
        ordered = np.sort(self.study_times(), axis=-1)
        count = self.num_studies()
        shape = (num_samples, *ordered.shape)
        drawn = (generator.random(shape) * np.maximum(count, 1)[..., None]).astype(np.int64)
        values = np.take_along_axis(np.broadcast_to(ordered, shape), drawn, axis=-1)
        values[..., np.arange(shape[-1]) >= count[..., None]] = np.nan
        return median_of_first(np.sort(values, axis=-1), np.broadcast_to(count, shape[:-1]))


def median_of_first(ordered: Floats, count: Integers) -> Floats:
    """Return the median of the first ``count`` of ascending values; infinite without any.

    >>> median_of_first(np.array([[1.0, 3.0, np.nan], [2.0, 4.0, np.inf]]), np.array([2, 3])).tolist()
    [2.0, 4.0]
    """
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, ordered.shape[-1] - 1)[..., None], axis=-1)[..., 0]
    high = np.where(count % 2 == 1, low, high)
    median: Floats = np.where(count > 0, (low + high) / 2, np.inf)
    return median


def points(times_s: Floats, benchmark: Benchmark) -> Floats:
    """Return what each base workload adds to a score, 0 to 1; a score is the mean of the first half.

    Args:
        times_s: ``[..., submission, workload]``; a submission of which all are infinite is not on the board.
        benchmark: With the rules.

    Returns:
        ``[..., submission, 2 x base workload]``: first as the rules have it, then without held-out variants.
    """
    layout = Layout.of(benchmark)
    by_rules = _points(times_s, layout, benchmark)
    if not layout.held_out:
        return np.concatenate([by_rules, by_rules], axis=-1)
    return np.concatenate([by_rules, _points(times_s, replace(layout, held_out=()), benchmark)], axis=-1)


def _points(times_s: Floats, layout: Layout, benchmark: Benchmark) -> Floats:
    rule = benchmark.scoring
    counted = qualify(times_s, layout, max_ratio_to_fastest=rule.max_ratio_to_fastest).times_s
    ratios = ratios_to_fastest(counted[..., layout.base_columns])[..., None]
    if rule.integration == "grid":
        return grid_score(ratios, tau_max=rule.tau_max, num_points=rule.grid_points)
    return exact_score(ratios, tau_max=rule.tau_max)


class Subset(NamedTuple):
    """Some of the workloads, with or without their held-out variants."""

    members: tuple[int, ...]
    has_variants: bool
    """Whether variants count as the rules say; where none of its workloads has any, they do."""


@dataclass(frozen=True, slots=True)
class Subsets:
    """Every subset of the base workloads, the cheapest first; the last one is the whole board."""

    workloads: tuple[str, ...]
    chosen: tuple[Subset, ...]
    cost: Floats
    """``[subset]``: share of the whole benchmark's budget."""
    spent: Floats
    """``[subset]``: share of the seconds that the trials really spent."""

    @classmethod
    def of(cls, times: TrialTimes) -> Subsets:
        """List the subsets of a board's workloads."""
        rules = times.benchmark
        bases = rules.base_workloads()
        columns = {name: column for column, name in enumerate(rules.workloads)}
        own, variants = np.zeros((2, len(bases))), np.zeros((2, len(bases)))
        for name, facts in rules.workloads.items():
            seconds = (facts.max_submission_time_s, times.spent_s[columns[name]])
            if facts.base is None:
                own[:, bases.index(name)] += seconds
            elif rules.scoring.held_out_required:
                variants[:, bases.index(facts.base)] += seconds
        whole = (own + variants).sum(axis=1)
        priced = []
        for members in _all_subsets(len(bases)):
            chosen = list(members)
            alone, together = own[:, chosen].sum(axis=1), (own + variants)[:, chosen].sum(axis=1)
            priced.append((together / whole, Subset(members, has_variants=True)))
            if variants[0, chosen].any():
                priced.append((alone / whole, Subset(members, has_variants=False)))
        priced.sort(key=lambda one: (round(float(one[0][0]), 9), len(one[1].members), one[1].members))
        costs = np.array([cost for cost, _ in priced])
        return cls(bases, tuple(subset for _, subset in priced), costs[:, 0], costs[:, 1])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.chosen)

    def names(self, number: int) -> tuple[str, ...]:
        """Return the workloads of a subset."""
        return tuple(self.workloads[member] for member in self.chosen[number].members)

    def number_of(self, names: Sequence[str], *, has_variants: bool) -> int:
        """Return the number of the subset of these workloads.

        Raises:
            ValueError: If there is none.
        """
        members = tuple(sorted(self.workloads.index(name) for name in names))
        found = [number for number, one in enumerate(self.chosen) if one.members == members]
        if not found:
            msg = f"no subset of {', '.join(names)}"
            raise ValueError(msg)
        return next((number for number in found if self.chosen[number].has_variants == has_variants), found[-1])

    def masks(self) -> Floats:
        """Return 1 for every column of points that a subset is made of: ``[subset, 2 x workload]``."""
        masks = np.zeros((len(self), 2 * len(self.workloads)))
        for row, (members, has_variants) in enumerate(self.chosen):
            masks[row, np.array(members) + (0 if has_variants else len(self.workloads))] = 1.0
        return masks

    def rest_masks(self) -> Floats:
        """Return the same of the workloads that a subset leaves out, by the rules; nothing for the whole board."""
        masks = np.zeros((len(self), 2 * len(self.workloads)))
        for row, (members, _) in enumerate(self.chosen):
            masks[row, [one for one in range(len(self.workloads)) if one not in members]] = 1.0
        return masks

    def up_to(self, number: int) -> Subsets:
        """Return the subsets up to a number, and the whole board."""
        kept = [*range(min(number + 1, len(self) - 1)), len(self) - 1]
        chosen = tuple(self.chosen[one] for one in kept)
        return replace(self, chosen=chosen, cost=self.cost[kept], spent=self.spent[kept])


def _all_subsets(num_workloads: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, num_workloads + 1):
        yield from combinations(range(num_workloads), size)


def best_so_far(agreement: Floats, *, dearest: bool = False) -> Integers:
    """Return, for every subset, the best of those that cost as much or less.

    Args:
        agreement: ``[..., subset]``, in order of cost.
        dearest: Of equal ones the dearest rather than the cheapest: what one takes who has the money.

    >>> best_so_far(np.array([0.1, 0.5, 0.3, 0.5, 0.6])).tolist()
    [0, 1, 1, 1, 4]
    >>> best_so_far(np.array([0.1, 0.5, 0.3, 0.5, 0.6]), dearest=True).tolist()
    [0, 1, 1, 3, 4]
    """
    rounded = np.round(agreement, 9)
    before = np.maximum.accumulate(rounded, axis=-1)
    is_new = np.ones(rounded.shape, dtype=bool)
    is_new[..., 1:] = rounded[..., 1:] >= before[..., 1:] if dearest else rounded[..., 1:] > before[..., :-1]
    numbers = np.where(is_new, np.arange(rounded.shape[-1]), 0)
    return np.asarray(np.maximum.accumulate(numbers, axis=-1))
