"""The leaderboard: scores, and for every submission and workload the time and what the rules made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from perfbench.errors import ScoringError
from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import Floats, TrialKey, TrialLog
from perfbench.scoring.attestation import attestations
from perfbench.scoring.completeness import gaps_of, notes_of
from perfbench.scoring.gap import Gap
from perfbench.scoring.profile import Layout, qualify, ratios_to_fastest, scores
from perfbench.scoring.states import TrialState, settle, state_of
from perfbench.scoring.target import TrialEnd
from perfbench.scoring.times import (
    BestTrial,
    WorkloadTime,
    fastest_as_published,
    fastest_by_time,
    time_array,
    trial_ends,
    workload_times,
)


class Verdict(StrEnum):
    """What the rules made of a submission's time on a workload."""

    COUNTED = "counted"
    MISSED = "target not reached"
    TOO_SLOW = "too far behind the fastest"
    HELD_OUT_MISSED = "held-out variant not reached"
    BASE_MISSED = "base workload not reached"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Cell:
    """A submission on a workload."""

    submission: str
    workload: str
    time: WorkloadTime
    verdict: Verdict
    ratio: float
    """To the fastest submission that counts; infinite where this one does not."""


@dataclass(frozen=True, slots=True)
class Board:
    """One leaderboard. Submissions are in order of score, the best first."""

    benchmark: Benchmark
    submissions: tuple[str, ...]
    score: dict[str, float]
    cells: dict[tuple[str, str], Cell]
    """By (submission, workload), held-out variants included."""
    ends: dict[TrialKey, TrialEnd]
    """Of the trials that count."""
    states: dict[TrialKey, TrialState]
    """Of all trials that have run, those included that were left out."""
    is_provisional: bool
    """Whether trials that are not over count as what they have measured so far."""
    gaps: tuple[Gap, ...]
    """What makes the board partial."""
    notes: tuple[str, ...]
    """What a reader should know though nothing is missing."""
    attestations: dict[str, str]
    """Of each submission's trials that count: how far they can be believed; empty for published logs."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the board partial, as lines."""
        return tuple(map(str, self.gaps))

    def ratios(self) -> Floats:
        """Return ratios to the fastest: submission by base workload, in the board's order."""
        bases = self.benchmark.base_workloads()
        rows = [[self.cells[name, workload].ratio for workload in bases] for name in self.submissions]
        return np.array(rows, dtype=np.float64).reshape(len(self.submissions), len(bases))

    def times(self) -> dict[tuple[str, str], WorkloadTime]:
        """Return the measured times by (submission, workload)."""
        return {place: cell.time for place, cell in self.cells.items()}


def leaderboard(
    logs: Sequence[TrialLog],
    benchmark: Benchmark,
    *,
    as_published: bool = False,
    provisional: bool = False,
    common: bool = False,
) -> Board:
    """Score trials of finished studies.

    Args:
        logs: Trials; those of other workloads, not scorable or of open studies are left out, with a warning.
        benchmark: Workloads, targets, budgets and rules.
        as_published: Follow the published board's departures from the rules.
        provisional: Count trials that are not over as what they have measured so far.
        common: Score by the workloads alone that all submissions have.

    Raises:
        ScoringError: If there is nothing to score.
    """
    benchmark, best_trial = _published(benchmark) if as_published else (benchmark, fastest_by_time)
    ends = trial_ends(logs, benchmark)
    if not ends:
        raise ScoringError(
            f"none of {len(logs)} trials can be scored",
            where=benchmark.name,
            hint="a trial counts only if it evaluates by wall clock (evaluation=wall_clock)" if logs else "",
        )
    states = {log.key: state_of(log, ends[log.key]) for log in logs if log.key in ends and log.is_started}
    settled = settle(logs, ends, benchmark, provisional=provisional, common=common)
    if not settled.keys:
        raise ScoringError(
            "no study that can be compared is finished" + "".join(f"\n  - {one}" for one in settled.gaps[:10]),
            where=benchmark.name,
            hint="`perfbench status` says what runs; --provisional shows what was measured so far",
        )
    asked = benchmark
    benchmark, ends = settled.benchmark, {key: end for key, end in ends.items() if key in settled.keys}
    counted = [log for log in logs if log.key in ends or log.key not in states]
    times = workload_times(ends, unfinished=settled.unfinished, best_trial=best_trial)
    submissions = tuple(sorted({submission for submission, _ in times}))
    array = time_array(times, submissions, benchmark)
    score = dict(zip(submissions, scores(array, Layout.of(benchmark), benchmark).tolist(), strict=True))
    cells = _cells(times, submissions, array, benchmark)
    return Board(
        benchmark=benchmark,
        submissions=tuple(sorted(submissions, key=lambda name: (-score[name], name))),
        score=score,
        cells=cells,
        ends=ends,
        states=states,
        is_provisional=provisional and bool(settled.unfinished),
        gaps=(*settled.gaps, *gaps_of(counted, times, submissions, benchmark)),
        notes=(
            *notes_of(logs, submissions, asked, as_published=as_published),
            *([f"by the workloads that all have: {', '.join(benchmark.workloads)}"] if common else []),
        ),
        attestations=attestations([log for log in logs if log.key in ends], submissions),
    )


def _published(benchmark: Benchmark) -> tuple[Benchmark, BestTrial]:
    published = benchmark.as_published
    if published is None:
        raise ScoringError(
            "nothing is known about how this board was published",
            where=benchmark.name,
            hint="choose a benchmark with an `as_published` section, e.g. --benchmark algoperf_v05",
        )
    changes = {"integration": "grid", "grid_points": published.grid_points}
    scoring = benchmark.scoring.model_copy(update=changes)
    return benchmark.model_copy(update={"scoring": scoring}), fastest_as_published(published)


def _cells(
    times: dict[tuple[str, str], WorkloadTime], submissions: tuple[str, ...], array: Floats, benchmark: Benchmark
) -> dict[tuple[str, str], Cell]:
    layout = Layout.of(benchmark)
    counted = qualify(array, layout, max_ratio_to_fastest=benchmark.scoring.max_ratio_to_fastest)
    ratios = ratios_to_fastest(counted.times_s)
    cells = {}
    for row, submission in enumerate(submissions):
        for column, workload in enumerate(benchmark.workloads):
            if (submission, workload) not in times:
                verdict = Verdict.NOT_RUN
            elif not math.isfinite(array[row, column]):
                verdict = Verdict.MISSED
            elif counted.too_slow[row, column]:
                verdict = Verdict.TOO_SLOW
            elif counted.held_out_missed[row, column]:
                verdict = Verdict.HELD_OUT_MISSED
            elif not math.isfinite(counted.times_s[row, column]):
                verdict = Verdict.BASE_MISSED
            else:
                verdict = Verdict.COUNTED
            time = times.get((submission, workload), WorkloadTime(()))
            cells[submission, workload] = Cell(submission, workload, time, verdict, float(ratios[row, column]))
    return cells
