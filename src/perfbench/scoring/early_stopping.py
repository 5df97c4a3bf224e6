"""How early in its budget one can tell that a trial will not reach its target, from the curves on record.

The rule: at a part of the budget, stop a trial whose best evaluation so far is worse than that of every trial on
record that was still running then and reached the target later. In sample it is never wrong, by construction; so for
every submission it is made from the trials of the others, and judged by its own. Where nobody else's trial is an
example, nothing is stopped.

Nothing of this is a rule of the benchmark: a trial on a board runs to its target or its budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfbench.errors import ScoringError
from perfbench.results.trials import Floats, Integers, TrialKey, TrialLog
from perfbench.scoring.agreement import kendall_tau
from perfbench.scoring.board import Board
from perfbench.scoring.profile import Layout, scores
from perfbench.scoring.subset_front import Estimate
from perfbench.scoring.target import TrialEnd
from perfbench.scoring.times import time_array, workload_times
from perfbench.spec.workload import Direction

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of the budget, at which a trial is looked at."""
_NUM_SAMPLES = 1000
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Curves:
    """Every trial of a board as the rule sees it."""

    keys: tuple[TrialKey, ...]
    submission: Integers
    """``[trial]``: number of the submission."""
    workload: Integers
    budget_s: Floats
    spent_s: Floats
    """``[trial]``: seconds on the clock at its end."""
    reaches: Booleans
    decides: Booleans
    """Whether it is the fastest of its study, so that stopping it would change a time."""
    best: Floats
    """``[trial, share]``: best evaluation so far, turned so that less is better; infinite without any."""
    runs: Booleans
    """``[trial, share]``: whether it has neither reached its target nor ended by then."""

    @classmethod
    def of(cls, board: Board, logs: Sequence[TrialLog]) -> Curves:
        """Take the trials that count on a board.

        Raises:
            ScoringError: If there are too few submissions to leave one out.
        """
        if len(board.submissions) < 2:  # noqa: PLR2004 - one to judge, one to learn from
            raise ScoringError("one submission alone: there is nobody to learn from", where=board.benchmark.name)
        counted = [log for log in logs if log.key in board.ends and len(log)]
        deciding = {
            (name, workload, study.study, study.trial)
            for (name, workload), cell in board.cells.items()
            for study in cell.time.studies
        }
        names = list(board.benchmark.workloads)
        budgets = [board.benchmark.workloads[log.key.workload].max_submission_time_s for log in counted]
        seen = [_seen(log, board, budget) for log, budget in zip(counted, budgets, strict=True)]
        return cls(
            keys=tuple(log.key for log in counted),
            submission=np.array([board.submissions.index(log.key.submission) for log in counted], dtype=np.int64),
            workload=np.array([names.index(log.key.workload) for log in counted], dtype=np.int64),
            budget_s=np.array(budgets),
            spent_s=np.array([one.spent_s for one in seen]),
            reaches=np.array([np.isfinite(board.ends[log.key].time_s) for log in counted]),
            decides=np.array([tuple(log.key[:4]) in deciding for log in counted]),
            best=np.array([one.best for one in seen]),
            runs=np.array([one.spent_s > np.array(SHARES) * budget for one, budget in zip(seen, budgets, strict=True)]),
        )

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.keys)


class _Seen(NamedTuple):
    spent_s: float
    best: Floats


def _seen(log: TrialLog, board: Board, budget_s: float) -> _Seen:
    """Return what is known of a trial at every share of its budget."""
    end = board.ends[log.key].evaluation_index
    is_minimized = board.benchmark.workloads[log.key.workload].target.direction is Direction.MINIMIZE
    loss = log.target_metric if is_minimized else -log.target_metric
    so_far = np.minimum.accumulate(np.where(np.isfinite(loss), loss, np.inf))
    known = np.searchsorted(log.submission_times_s, np.array(SHARES) * budget_s, side="right")
    best = np.where(known > 0, so_far[np.maximum(known - 1, 0)], np.inf)
    return _Seen(float(log.submission_times_s[-1 if end is None else end]), best)


def stopped_at(curves: Curves, shares: Sequence[int], *, learned_from: Booleans, judged: Booleans) -> Floats:
    """Return at what share of its budget the rule stops each trial; infinite where it does not.

    Args:
        curves: All trials.
        shares: Numbers of the shares at which trials are looked at.
        learned_from: ``[trial]``: by which trials the rule is made.
        judged: ``[trial]``: to which it is applied.
    """
    at = np.full(len(curves), np.inf)
    for workload in np.unique(curves.workload):
        its = curves.workload == workload
        for number in sorted(shares, reverse=True):
            examples = curves.best[its & learned_from & curves.reaches & curves.runs[:, number], number]
            if len(examples):
                is_behind = its & judged & curves.runs[:, number] & (curves.best[:, number] > examples.max())
                at[is_behind] = SHARES[number]
    return at


def validated_stops(curves: Curves, shares: Sequence[int]) -> Floats:
    """Return the same where each submission's trials are judged by a rule made from the others'."""
    at = np.full(len(curves), np.inf)
    for number in np.unique(curves.submission):
        its = curves.submission == number
        at = np.minimum(at, stopped_at(curves, shares, learned_from=~its, judged=its))
    return at


class Outcome(NamedTuple):
    """What stopping does."""

    saved: float
    """Share of all seconds on the clock."""
    caught: float
    """Share of the trials that do not reach their target that are stopped."""
    wrong: float
    """Share of the trials that reach their target that are stopped."""
    wrong_deciding: float
    """Share of the studies that reach the target whose fastest trial is stopped."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The rule at one share of the budget, or at all of them."""

    share: float | None
    """``None``: at every one of ``SHARES``."""
    in_sample: Outcome
    validated: Outcome
    saved: Estimate
    """Validated; interval over submissions."""
    wrong: Estimate
    wrong_deciding: Estimate
    tau: float
    """Of the board of what is left (validated) with the whole one."""


def outcomes(curves: Curves, stopped: Floats, counts: Floats) -> Floats:
    """Return what stops do, for several samples of submissions at once.

    Args:
        curves: All trials.
        stopped: ``[trial]``: at what share of the budget; infinite: never.
        counts: ``[sample, submission]``: how often each submission counts.

    Returns:
        ``[sample, field of Outcome]``.
    """
    is_stopped = np.isfinite(stopped)
    left_s = np.where(is_stopped, curves.spent_s - np.where(is_stopped, stopped, 0.0) * curves.budget_s, 0.0)
    asked = [~curves.reaches, curves.reaches, curves.decides & curves.reaches]
    parts = [left_s, *(which & is_stopped for which in asked)]
    wholes = [curves.spent_s, *asked]
    found = []
    for part, whole in zip(parts, wholes, strict=True):
        sums = [
            counts @ np.bincount(curves.submission, weights=one.astype(np.float64), minlength=counts.shape[1])
            for one in (part, whole)
        ]
        found.append(np.divide(sums[0], sums[1], out=np.zeros_like(sums[0]), where=sums[1] > 0))
    return np.stack(found, axis=1)


def outcome(curves: Curves, stopped: Floats) -> Outcome:
    """Return what stops do."""
    everyone = np.ones((1, int(curves.submission.max()) + 1))
    return Outcome(*outcomes(curves, stopped, everyone)[0].tolist())


def early_stopping(board: Board, logs: Sequence[TrialLog], *, seed: int = 0) -> list[Stopping]:
    """Judge the rule at every share of the budget, and at all of them together."""
    curves = Curves.of(board, logs)
    num_submissions = len(board.submissions)
    drawn = np.random.default_rng(seed).multinomial(
        num_submissions, np.full(num_submissions, 1 / num_submissions), _NUM_SAMPLES
    )
    everything = np.ones(len(curves), dtype=np.bool_)
    numbers = range(len(SHARES))
    found = []
    for shares in [*([number] for number in numbers), list(numbers)]:
        own = outcome(curves, stopped_at(curves, shares, learned_from=everything, judged=everything))
        at = validated_stops(curves, shares)
        samples = outcomes(curves, at, drawn.astype(np.float64))
        value = outcome(curves, at)
        found.append(
            Stopping(
                share=SHARES[shares[0]] if len(shares) == 1 else None,
                in_sample=own,
                validated=value,
                saved=Estimate.of(value.saved, samples[:, 0]),
                wrong=Estimate.of(value.wrong, samples[:, 2]),
                wrong_deciding=Estimate.of(value.wrong_deciding, samples[:, 3]),
                tau=_tau_of_the_rest(board, curves, at),
            )
        )
    return found


def _tau_of_the_rest(board: Board, curves: Curves, stopped: Floats) -> float:
    """Score again with the stopped trials as missed, and compare."""
    gone = {key for key, at in zip(curves.keys, stopped.tolist(), strict=True) if np.isfinite(at)}
    missed = TrialEnd(None, None, float("inf"))
    ends: Mapping[TrialKey, TrialEnd] = {key: missed if key in gone else end for key, end in board.ends.items()}
    times = time_array(workload_times(ends), board.submissions, board.benchmark)
    again = scores(times, Layout.of(board.benchmark), board.benchmark)
    return kendall_tau(np.array([board.score[name] for name in board.submissions]), again)


def saved_without_error(curves: Curves) -> float:
    """Return the share of seconds that studies save, run in order, by ending trials that are already beaten.

    A trial that has run longer than another one of its study took to the target cannot count: no rule has to be
    learned.
    """
    best: dict[tuple[str, str, int], float] = {}
    saved = 0.0
    for number in sorted(range(len(curves)), key=lambda one: curves.keys[one]):
        key = curves.keys[number]
        study = (key.submission, key.workload, key.study)
        fastest = best.get(study, np.inf)
        saved += max(0.0, float(curves.spent_s[number]) - fastest)
        if curves.reaches[number]:
            best[study] = min(fastest, float(curves.spent_s[number]))
    return saved / (float(curves.spent_s.sum()) or 1.0)
