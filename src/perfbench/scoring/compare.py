"""Two submissions against each other: speed-up per workload, its geometric mean, wins and losses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perfbench.scoring.board import Board
from perfbench.scoring.uncertainty import MOST_COMPARED


@dataclass(frozen=True, slots=True)
class Comparison:
    """How ``submission`` did against ``other``, by measured time to target on base workloads."""

    submission: str
    other: str
    wins: int
    """Workloads on which it was faster, or reached a target that the other missed."""
    losses: int
    ties: int
    """Equal times, or both missed."""
    speed_ups: dict[str, float]
    """By workload that both reached: the other's time divided by this one's."""

    @property
    def mean_speed_up(self) -> float:
        """Return the geometric mean over the workloads that both reached; NaN where there is none."""
        return geometric_mean(self.speed_ups.values())


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean; NaN without values.

    >>> geometric_mean([2.0, 0.5]), geometric_mean([4.0])
    (1.0, 4.0)
    """
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else math.nan


def compare(board: Board, submission: str, other: str, workloads: Sequence[str] | None = None) -> Comparison:
    """Compare two submissions of a board, on its base workloads unless told which."""
    wins = losses = 0
    speed_ups: dict[str, float] = {}
    workloads = board.benchmark.base_workloads() if workloads is None else workloads
    for workload in workloads:
        own = board.cells[submission, workload].time.time_s
        others = board.cells[other, workload].time.time_s
        wins += own < others
        losses += own > others
        if math.isfinite(own) and math.isfinite(others) and own > 0 and others > 0:
            speed_ups[workload] = others / own
    return Comparison(submission, other, wins, losses, len(workloads) - wins - losses, speed_ups)


def compare_all(board: Board) -> list[Comparison]:
    """Compare every submission with every other, in the board's order; of very many, the best."""
    names = board.submissions[:MOST_COMPARED]
    workloads = board.benchmark.base_workloads()
    return [compare(board, one, other, workloads) for one in names for other in names if one != other]
