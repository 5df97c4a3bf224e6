"""How far a score could have come out otherwise: bootstrap over studies.

The studies of a submission on a workload are independent repetitions with their own seeds, so they are drawn with
replacement, for every submission and workload on its own. What is not repeated (the hardware, the data) is not in
these intervals.

Source: Efron and Tibshirani (1993), chapter 13, percentile intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perfbench.results.trials import Floats
from perfbench.scoring.board import Board
from perfbench.scoring.profile import Layout, profile, qualify, ratios_to_fastest, scores
from perfbench.scoring.times import WorkloadTime

_LEVEL = 0.95
_NUM_SAMPLES = 2000
_NUM_BAND_SAMPLES = 500
MOST_COMPARED = 200
"""Submissions, the best first, that are compared with one another: pairs grow with their square."""


class Interval(NamedTuple):
    """A percentile interval; infinite ends where a target is missed in some samples."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What bootstrap samples of a board say."""

    level: float
    num_samples: int
    score: dict[str, Interval | None]
    """``None`` where nothing was repeated, so that nothing can be said."""
    time_s: dict[tuple[str, str], Interval | None]
    rank: dict[str, Interval]
    scores_higher: dict[tuple[str, str], float | None]
    """Share of samples in which the first submission scores higher; ties count half. ``None`` where nothing can be
    said: one of the two was not repeated on any workload that both ran, or there is none."""
    is_faster: dict[tuple[str, str, str], float | None]
    """Share of samples in which the first is faster than the second on the workload; ties count half. ``None`` where
    one of the two was not repeated on it."""


def bootstrap(board: Board, *, num_samples: int = _NUM_SAMPLES, level: float = _LEVEL, seed: int = 0) -> Uncertainty:
    """Resample studies and score every sample.

    Args:
        board: The leaderboard.
        num_samples: Bootstrap samples.
        level: Of the intervals.
        seed: Same seed, same intervals.
    """
    generator = np.random.default_rng(seed)
    names, workloads = board.submissions, tuple(board.benchmark.workloads)
    times = _resampled_times(board, num_samples, generator)
    sampled = scores(times, Layout.of(board.benchmark), board.benchmark)
    is_repeated = np.array([[len(board.cells[name, one].time.studies) > 1 for one in workloads] for name in names])
    repeated = {name: bool(row.any()) for name, row in zip(names, is_repeated, strict=True)}
    num_compared = min(len(names), MOST_COMPARED)
    higher = _share_below(-sampled[:, :num_compared])
    faster = [_share_below(times[:, :num_compared, column]) for column in range(len(workloads))]
    pairs = [(i, j) for i in range(num_compared) for j in range(num_compared) if i != j]
    return Uncertainty(
        level=level,
        num_samples=num_samples,
        score={name: interval_of(sampled[:, i], level) if repeated[name] else None for i, name in enumerate(names)},
        time_s={
            (name, workload): interval_of(times[:, i, j], level)
            if len(board.cells[name, workload].time.studies) > 1
            else None
            for i, name in enumerate(names)
            for j, workload in enumerate(workloads)
        },
        rank={name: interval_of(ranks, level) for name, ranks in zip(names, _ranks(sampled), strict=True)},
        scores_higher={
            (names[i], names[j]): float(higher[i, j]) if (is_repeated[i] & is_repeated[j]).any() else None
            for i, j in pairs
        },
        is_faster={
            (names[i], names[j], workload): float(faster[column][i, j])
            if is_repeated[i, column] and is_repeated[j, column]
            else None
            for i, j in pairs
            for column, workload in enumerate(workloads)
        },
    )


def _resampled_times(board: Board, num_samples: int, generator: np.random.Generator) -> Floats:
    """Return median times of resampled studies, ``[samples, submissions, workloads]``."""
    names, workloads = board.submissions, tuple(board.benchmark.workloads)
    times = np.full((num_samples, len(names), len(workloads)), math.inf)
    for row, name in enumerate(names):
        for column, workload in enumerate(workloads):
            times[:, row, column] = resampled_medians(board.cells[name, workload].time, num_samples, generator)
    return times


def profile_bands(
    board: Board, taus: Floats, *, num_samples: int = _NUM_BAND_SAMPLES, level: float = _LEVEL, seed: int = 0
) -> dict[str, Floats]:
    """Return percentile intervals of the performance profiles, at each tau by itself.

    Args:
        board: The leaderboard.
        taus: Factors of the fastest, ``[taus]``.
        num_samples: Bootstrap samples.
        level: Of the intervals.
        seed: Same seed, same intervals.

    Returns:
        ``[2, taus]`` (low, high) by submission; those with no repeated study are absent, as nothing can be said.
    """
    layout = Layout.of(board.benchmark)
    times = _resampled_times(board, num_samples, np.random.default_rng(seed))
    counted = qualify(times, layout, max_ratio_to_fastest=board.benchmark.scoring.max_ratio_to_fastest).times_s
    ratios = ratios_to_fastest(counted[..., layout.base_columns])
    tail = (1.0 - level) / 2
    ends = [math.floor(tail * (num_samples - 1)), math.ceil((1.0 - tail) * (num_samples - 1))]
    return {
        name: np.sort(profile(ratios[:, row], taus), axis=0)[ends]
        for row, name in enumerate(board.submissions)
        if any(len(board.cells[name, one].time.studies) > 1 for one in board.benchmark.workloads)
    }


def resampled_medians(time: WorkloadTime, num_samples: int, generator: np.random.Generator) -> Floats:
    """Return the median of each of many draws of as many studies, with replacement."""
    if not time.studies:
        return np.full(num_samples, math.inf)
    values = np.array([study.time_s for study in time.studies])
    drawn = np.sort(values[generator.integers(len(values), size=(num_samples, len(values)))], axis=1)
    middle = len(values) // 2
    if len(values) % 2:
        return np.asarray(drawn[:, middle])
    return np.asarray((drawn[:, middle - 1] + drawn[:, middle]) / 2)


def interval_of(samples: Floats, level: float) -> Interval:
    """Return the percentile interval, made of samples: interpolating next to infinity would give no number."""
    tail = (1.0 - level) / 2
    ordered = np.sort(samples)
    low = ordered[math.floor(tail * (len(ordered) - 1))]
    high = ordered[math.ceil((1.0 - tail) * (len(ordered) - 1))]
    return Interval(float(low), float(high))


def _ranks(scores_of_samples: Floats) -> Iterator[Floats]:
    """Yield each submission's ranks over the samples, ``[samples]``; equal scores share the better one."""
    ordered = -np.sort(-scores_of_samples, axis=1)
    for column in scores_of_samples.T:
        yield 1.0 + (ordered > column[:, None]).sum(axis=1)


def _share_below(samples: Floats) -> Floats:
    """Return, for every pair of columns, the share of rows in which the first is smaller; ties count half."""
    smaller = np.stack([np.count_nonzero(column[:, None] < samples, axis=0) for column in samples.T])
    return np.asarray((smaller + len(samples) - smaller.T) / (2 * len(samples)))
