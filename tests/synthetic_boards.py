"""Boards whose answer is known: how times on workloads hang together is written down, nothing is measured."""

from __future__ import annotations

import numpy as np

from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import TrialLog
from perfbench.scoring.board import Board, leaderboard
from perfbench.scoring.subsets import TrialTimes
from tests.scoring_logs import benchmark, reaching

WORKLOADS = ("a", "b", "c", "d")


def board_of(times_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[Board, list[TrialLog], TrialTimes]:
    """Return the board of times by ``[submission, workload, study, trial]``."""
    rules = rules_of(*times_s.shape[1:])
    logs = [
        reaching(
            float(time_s),
            submission=f"entry_{place[0]:02}",
            workload=WORKLOADS[place[1]],
            study=place[2],
            trial=place[3] + 1,
        )
        for place, time_s in np.ndenumerate(times_s)
    ]
    board = leaderboard(logs, rules)
    return board, logs, TrialTimes.of(board, logs)


def rules_of(num_workloads: int, num_studies: int, num_trials: int) -> Benchmark:
    """Return rules; the first workload is the cheapest."""
    rules = benchmark(*WORKLOADS[:num_workloads], num_studies=num_studies, num_trials=num_trials)
    workloads = {
        name: facts.model_copy(update={"max_submission_time_s": 100.0 * (1 + place)})
        for place, (name, facts) in enumerate(rules.workloads.items())
    }
    return rules.model_copy(update={"workloads": workloads})


def spread(
    num_submissions: int, *, low_s: float = 20.0, high_s: float = 75.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return evenly spread times: everybody is inside four times the fastest."""
    return np.linspace(low_s, high_s, num_submissions)


def repeated(
    medians_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]], *, num_studies: int = 3, noise: float = 0.001
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return studies of one trial around ``[submission, workload]``, a little apart."""
    generator = np.random.default_rng(1)
    factors = 1 + noise * generator.standard_normal((*medians_s.shape, num_studies, 1))
    times_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = medians_s[..., None, None] * factors
    return times_s
