"""How much ranks depend on choices that could have been made otherwise: target, budget, tau_max, workloads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from perfbench.results.benchmark import Benchmark, BenchmarkWorkload
from perfbench.results.trials import TrialLog
from perfbench.scoring.board import Board
from perfbench.scoring.profile import Layout, scores
from perfbench.scoring.tables import Table
from perfbench.scoring.times import time_array, trial_ends, workload_times
from perfbench.spec.workload import Direction


class Choice(StrEnum):
    """What is varied."""

    TARGET = "target"
    BUDGET = "budget"
    TAU_MAX = "tau_max"
    WORKLOADS = "left-out workload"


@dataclass(frozen=True, slots=True)
class Changes:
    """What to try. These are questions to a board, not rules of it.

    A run ends at its target or its budget, so records can answer for easier targets and shorter budgets only: under
    a harder target, a submission that stopped early would look worse than one that was slow to stop.
    """

    target_shares: tuple[float, ...] = (-0.01, -0.005, -0.002)
    """Relative changes of every threshold; negative is easier."""
    budget_factors: tuple[float, ...] = (0.8, 0.9, 0.95)
    tau_maxima: tuple[float, ...] = (2.0, 3.0, 6.0)


@dataclass(frozen=True, slots=True)
class Variation:
    """The board under one changed choice."""

    choice: Choice
    what: str
    score: Mapping[str, float]

    def rank(self, submission: str) -> int:
        """Return the rank; equal scores share the better one."""
        own = self.score[submission]
        return 1 + sum(other > own for other in self.score.values())


def sensitivity(board: Board, logs: Sequence[TrialLog], changes: Changes | None = None) -> list[Variation]:
    """Score the trials again under every change, by the rules of the board otherwise."""
    return list(_variations(board, logs, changes or Changes()))


def _variations(board: Board, logs: Sequence[TrialLog], changes: Changes) -> Iterator[Variation]:
    rules = board.benchmark
    for share in changes.target_shares:
        harder = _with_workloads(rules, {name: _harder(one, share) for name, one in rules.workloads.items()})
        word = "harder" if share > 0 else "easier"
        yield Variation(Choice.TARGET, f"{abs(share):.1%} {word}", _scores_of_logs(board, logs, harder))
    for factor in changes.budget_factors:
        longer = {
            name: one.model_copy(update={"max_submission_time_s": one.max_submission_time_s * factor})
            for name, one in rules.workloads.items()
        }
        changed = _with_workloads(rules, longer)
        yield Variation(Choice.BUDGET, f"{factor:.0%} of the budget", _scores_of_logs(board, logs, changed))
    for tau_max in changes.tau_maxima:
        scoring = rules.scoring.model_copy(update={"tau_max": tau_max})
        changed = rules.model_copy(update={"scoring": scoring})
        yield Variation(Choice.TAU_MAX, f"tau_max {tau_max:g}", _scores_of_times(board, changed, Layout.of(changed)))
    bases = rules.base_workloads()
    for name in bases if len(bases) > 1 else ():
        layout = Layout.of(rules, without=name)
        yield Variation(Choice.WORKLOADS, f"without {name}", _scores_of_times(board, rules, layout))


def sensitivity_table(board: Board, variations: Sequence[Variation]) -> Table:
    """Return every submission's rank and the ranks it takes under each kind of change."""
    rows = []
    for name in board.submissions:
        own = 1 + sum(board.score[other] > board.score[name] for other in board.submissions)
        ranges = [_range([one.rank(name) for one in variations if one.choice is choice]) for choice in Choice]
        rows.append((name, str(own), *ranges))
    tried = "; ".join(
        f"{choice}: {', '.join(one.what for one in variations if one.choice is choice)}"
        for choice in Choice
        if any(one.choice is choice for one in variations)
    )
    return Table("Ranks if the rules were otherwise", ("submission", "rank", *Choice), tuple(rows), tried)


def _range(ranks: Sequence[int]) -> str:
    if not ranks:
        return ""
    return str(min(ranks)) if min(ranks) == max(ranks) else f"{min(ranks)} to {max(ranks)}"


def _with_workloads(rules: Benchmark, workloads: dict[str, BenchmarkWorkload]) -> Benchmark:
    return rules.model_copy(update={"workloads": workloads})


def _harder(workload: BenchmarkWorkload, share: float) -> BenchmarkWorkload:
    target = workload.target
    sign = -1 if target.direction is Direction.MINIMIZE else 1
    threshold = target.threshold + sign * share * abs(target.threshold)
    return workload.model_copy(update={"target": target.model_copy(update={"threshold": threshold})})


def _scores_of_logs(board: Board, logs: Sequence[TrialLog], rules: Benchmark) -> dict[str, float]:
    times = workload_times(trial_ends((log for log in logs if log.key in board.ends), rules))
    array = time_array(times, board.submissions, rules)
    return dict(zip(board.submissions, scores(array, Layout.of(rules), rules).tolist(), strict=True))


def _scores_of_times(board: Board, rules: Benchmark, layout: Layout) -> dict[str, float]:
    array = time_array(board.times(), board.submissions, rules)
    return dict(zip(board.submissions, scores(array, layout, rules).tolist(), strict=True))
