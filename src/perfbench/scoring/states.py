"""What has become of each trial, and which studies are finished: only those make a board.

A trial that still runs, waits or was interrupted has not missed its target: nobody knows yet. A study with such a trial
is left out and named, instead of counting as one that did not reach it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import TrialKey, TrialLog
from perfbench.scoring.gap import Cause, Gap
from perfbench.scoring.target import TrialEnd
from perfbench.spec.result import BudgetSpent, Crashed, Diverged, FailureReason, TargetReached


class TrialState(StrEnum):
    """What has become of a trial."""

    REACHED = "reached"
    MISSED = "missed"
    """Its budget is spent, or the submission had nothing more to do."""
    DIVERGED = "diverged"
    CRASHED = "crashed"
    UNFINISHED = "unfinished"
    """It runs, or was interrupted and can go on."""
    NOT_RUN = "not run"
    """It is planned, and nothing of it has run."""


_OWN_FAULTS = (FailureReason.SUBMISSION, FailureReason.OUT_OF_MEMORY)
"""A crash of these kinds is the submission's own and would come again: the trial is over, and missed its target."""

Study = tuple[str, str, int]
"""Submission, workload, number."""


def state_of(log: TrialLog, end: TrialEnd) -> TrialState:
    """Return a trial's state: what its evaluations say first, then its own record of the end."""
    match end.outcome or log.outcome:
        case TargetReached() if end.outcome is not None:
            return TrialState.REACHED
        case Diverged():
            return TrialState.DIVERGED
        case BudgetSpent():
            return TrialState.MISSED
        case Crashed():
            return TrialState.CRASHED
    if not log.is_started:
        return TrialState.NOT_RUN
    return TrialState.MISSED if log.is_finished else TrialState.UNFINISHED


def is_settled(log: TrialLog, state: TrialState) -> bool:
    """Tell whether nothing that may still happen changes what a trial counts as."""
    if state is TrialState.CRASHED:
        assert isinstance(log.outcome, Crashed), "only its own record says so"
        return log.outcome.reason in _OWN_FAULTS
    return state not in (TrialState.UNFINISHED, TrialState.NOT_RUN)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a board is made from."""

    keys: frozenset[TrialKey]
    """Of the trials that count."""
    benchmark: Benchmark
    """Without workloads on which nothing can be said yet."""
    gaps: tuple[Gap, ...]
    """What was left out, and why."""
    unfinished: frozenset[TrialKey] = frozenset()
    """Of those that count: trials that are not over."""


def settle(
    logs: Sequence[TrialLog],
    ends: Mapping[TrialKey, TrialEnd],
    benchmark: Benchmark,
    *,
    provisional: bool,
    common: bool,
) -> Settled:
    """Choose the trials of finished studies, and the submissions and workloads that can be compared by them.

    1. A study with a trial that is not over is left out.
    2. A workload on which no submission has a finished study but some an open one is left out.
    3. A submission that has only open studies on a workload that is left is not ranked.

    Args:
        logs: All trials.
        ends: Of those that may be scored.
        benchmark: Workloads and rules.
        provisional: Count trials that are not over as what they have measured so far.
        common: Keep only the workloads that all submissions have.
    """
    scorable = [log for log in logs if log.key in ends]
    open_logs = [log for log in scorable if not is_settled(log, state_of(log, ends[log.key]))]
    open_studies = frozenset() if provisional else frozenset(map(_study, open_logs))
    kept = [log for log in scorable if _study(log) not in open_studies and log.is_started]
    have = {(log.key.submission, log.key.workload) for log in kept}
    gaps = list(_open_gaps(open_logs, ends)) if not provisional else []
    submissions = {log.key.submission for log in scorable if log.is_started}
    if common:
        lacking = [one for one in benchmark.workloads if not all((name, one) in have for name in submissions)]
    else:
        is_open = {workload for _, workload, _ in open_studies}
        lacking = [
            one
            for one in benchmark.workloads
            if one in is_open and not any((name, one) in have for name in submissions)
        ]
        gaps += [Gap(Cause.LEFT_OUT, one, "left out, no submission has finished a study on it") for one in lacking]
    left = _without(benchmark, lacking)
    waiting = sorted({(name, one) for name, one, _ in open_studies if one in left.workloads} - have)
    unranked: dict[str, list[str]] = defaultdict(list)
    for name, one in waiting:
        unranked[name].append(one)
    for name, ones in unranked.items():
        text = f"not ranked, no study of it is finished on {', '.join(ones)} (--common ranks by the rest)"
        gaps.append(Gap(Cause.UNRANKED, name, text, name))
    counted = [log for log in kept if log.key.workload in left.workloads and log.key.submission not in unranked]
    unfinished = frozenset(log.key for log in open_logs) if provisional else frozenset()
    return Settled(frozenset(log.key for log in counted), left, tuple(gaps), unfinished)


def _without(benchmark: Benchmark, names: Iterable[str]) -> Benchmark:
    """Return the benchmark without some workloads and without the variants of those."""
    gone = set(names)
    workloads = {
        name: facts for name, facts in benchmark.workloads.items() if name not in gone and facts.base not in gone
    }
    return benchmark.model_copy(update={"workloads": workloads})


def _study(log: TrialLog) -> Study:
    return log.key.submission, log.key.workload, log.key.study


def _open_gaps(open_logs: Sequence[TrialLog], ends: Mapping[TrialKey, TrialEnd]) -> Iterator[Gap]:
    """Yield one per submission and workload that names the studies that are left out, and why."""
    places: dict[tuple[str, str], dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for log in sorted(open_logs, key=lambda log: log.key):
        state = state_of(log, ends[log.key])
        why = f": {log.outcome.reason}" if isinstance(log.outcome, Crashed) else ""
        places[log.key.submission, log.key.workload][log.key.study].append(f"trial {log.key.trial} {state}{why}")
    for (submission, workload), studies in places.items():
        listed = "; ".join(f"study {study} ({', '.join(_shortened(whys))})" for study, whys in studies.items())
        yield Gap(Cause.OPEN, f"{submission} on {workload}", f"not finished and left out: {listed}", submission)


def _shortened(whys: Sequence[str], most: int = 4) -> list[str]:
    return [*whys[:most], f"{len(whys) - most} more"] if len(whys) > most else list(whys)
