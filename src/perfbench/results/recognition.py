"""Which published board a tree of AlgoPerf logs belongs to, and what of a tree does not fit a board.

The logs do not say by which rules they were made. What tells versions apart: how many studies and trials there are, the
workloads, how often evaluations come, how long runs last, and the budget in ``meta_data_0.json`` where it was kept.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from perfbench.errors import ResultsError
from perfbench.results.algoperf_rows import TIME
from perfbench.results.benchmark import Benchmark
from perfbench.results.files import read_regular_file
from perfbench.results.log_tree import FoundLog, LogTree, no_logs, without_suffix

_SAMPLED_LOGS = 16
"""Of each workload: more do not change a median."""
_META_DATA = "meta_data_0.json"
_BUDGET_KEY = "workload.max_allowed_runtime_sec"
_MOST_BYTES = 4 << 20
_FEWEST_STUDIES = 3
"""So many studies of a single trial each, and it is no accident."""
_PERIOD_TOLERANCE = 0.1
"""Median intervals of the published logs lie within 1 % of the period; the periods of two versions differ by 21 %."""
_OVERRUN_PERIODS = 2.0
"""A run ends at the first evaluation after its budget."""


@dataclass(frozen=True, slots=True)
class TreeFacts:
    """What a tree says about the rules that it was made by."""

    workloads: frozenset[str]
    most_studies: int
    """Of a submission on a workload."""
    most_trials: int
    """Of a study."""
    num_studies: int
    """All of them, over submissions and workloads."""
    periods_s: Mapping[str, float]
    """Median seconds between evaluations, by workload."""
    longest_s: Mapping[str, float]
    """Of the sampled runs, by workload: submission time at the last evaluation."""
    budgets_s: Mapping[str, frozenset[float]]
    """As the runs' own meta data has them, before the ruleset's factor."""


def facts_of(tree: LogTree, suffixes: Sequence[str]) -> TreeFacts:
    """Return what a tree says; of each workload's logs a sample is opened."""
    by_workload: dict[str, list[FoundLog]] = defaultdict(list)
    studies: dict[tuple[str, str], set[int]] = defaultdict(set)
    trials: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for log in tree.logs:
        workload = without_suffix(log.workload_folder, suffixes)
        by_workload[workload].append(log)
        studies[log.submission, workload].add(log.study)
        trials[log.submission, workload, log.study].add(log.trial)
    periods_s: dict[str, float] = {}
    longest_s: dict[str, float] = {}
    budgets_s: dict[str, frozenset[float]] = {}
    for workload, logs in by_workload.items():
        sample = logs[:: math.ceil(len(logs) / _SAMPLED_LOGS)]
        times = [_times_s(log.path) for log in sample]
        intervals = [statistics.median(b - a for a, b in pairwise(one)) for one in times if len(one) > 1]
        if intervals:
            periods_s[workload] = statistics.median(intervals)
        longest_s[workload] = max((max(one) for one in times if one), default=0.0)
        budgets_s[workload] = frozenset(found for log in sample if (found := _budget_s(log.path)) is not None)
    return TreeFacts(
        workloads=frozenset(by_workload),
        most_studies=max(map(len, studies.values()), default=0),
        most_trials=max((max(numbers) for numbers in trials.values()), default=0),
        num_studies=len(trials),
        periods_s=periods_s,
        longest_s=longest_s,
        budgets_s=budgets_s,
    )


def recognised(tree: LogTree, benchmarks: Mapping[str, Benchmark]) -> str:
    """Return the name of the one benchmark that a tree fits.

    Raises:
        ResultsError: If it fits none or several: which one is meant is not guessed.
    """
    if not tree.logs:
        raise no_logs(tree.paths, "the logs under the path are in the wrong place")
    suffixes = sorted({suffix for benchmark in benchmarks.values() for suffix in benchmark.name_suffixes})
    facts = facts_of(tree, suffixes)
    found = {name: list(misfits(facts, benchmark)) for name, benchmark in benchmarks.items()}
    fitting = [name for name, problems in found.items() if not problems]
    if len(fitting) == 1:
        return fitting[0]
    where = ", ".join(map(str, tree.paths))
    if fitting:
        raise ResultsError(
            f"these logs fit more than one benchmark: {', '.join(fitting)}",
            where=where,
            hint=f"say which one is meant, e.g. --benchmark {fitting[0]}",
        )
    listing = "".join(f"\n  - {name}: {problems[0]}" for name, problems in found.items())
    raise ResultsError(
        f"these logs fit no benchmark that is known here:{listing}",
        where=where,
        hint="--benchmark NAME scores them by its rules all the same; NAME may be a YAML file of your own",
    )


def misfits(facts: TreeFacts, benchmark: Benchmark) -> Iterator[str]:
    """Yield what of a tree contradicts a benchmark, in words for people."""
    yield from _other_counts(facts, benchmark)
    yield from _other_workloads(facts, benchmark)
    yield from _other_budgets(facts, benchmark)
    yield from _other_periods(facts, benchmark)


def _other_counts(facts: TreeFacts, benchmark: Benchmark) -> Iterator[str]:
    if facts.most_trials > benchmark.num_trials:
        yield f"there is a trial {facts.most_trials}, but its studies have {_count(benchmark.num_trials, 'trial')}"
    if facts.most_trials == 1 < benchmark.num_trials and facts.num_studies >= _FEWEST_STUDIES:
        yield f"every study has one trial, not {benchmark.num_trials}"
    if facts.most_studies > benchmark.num_studies:
        yield f"there are {facts.most_studies} studies, not {benchmark.num_studies}"


def _other_workloads(facts: TreeFacts, benchmark: Benchmark) -> Iterator[str]:
    bases = benchmark.base_workloads()
    variants = set(benchmark.workloads) - set(bases)
    # v0.5's baseline ran all held-out variants that could have been drawn: they are no contradiction.
    unknown = [
        repr(workload)
        for workload in sorted(facts.workloads - set(benchmark.workloads))
        if not (variants and any(workload.startswith(f"{base}_") for base in bases))
    ]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        yield f"{unknown[0]}{more} {'are' if more else 'is'} no workload of it"
    is_whole = facts.workloads >= set(bases)
    if benchmark.scoring.held_out_required and variants and is_whole and not facts.workloads & variants:
        yield "none of its held-out workloads was run"


def _other_budgets(facts: TreeFacts, benchmark: Benchmark) -> Iterator[str]:
    for name, workload in benchmark.workloads.items():
        budget_s = workload.max_submission_time_s
        base_s = budget_s / benchmark.budget_factor
        other = [found for found in facts.budgets_s.get(name, ()) if abs(found - base_s) >= 1.0]
        if other:
            yield f"{name} was run with a budget of {max(other):,.0f} s, not {base_s:,.0f} s"
        longest_s = facts.longest_s.get(name, 0.0)
        if longest_s > budget_s + _OVERRUN_PERIODS * facts.periods_s.get(name, budget_s):
            yield f"a run on {name} lasted {longest_s:,.0f} s, though it grants {budget_s:,.0f} s"


def _other_periods(facts: TreeFacts, benchmark: Benchmark) -> Iterator[str]:
    """Yield that most workloads were evaluated more or less often; a single one may be an entry's own doing."""
    known = {name: facts.periods_s[name] for name in benchmark.workloads if name in facts.periods_s}
    ratios = {
        name: period_s / expected_s
        for name, period_s in known.items()
        if (expected_s := benchmark.workloads[name].eval_period_s) is not None
    }
    other = [name for name, ratio in ratios.items() if abs(ratio - 1.0) > _PERIOD_TOLERANCE]
    if 2 * len(other) > len(ratios):
        name = other[0]
        expected_s = benchmark.workloads[name].eval_period_s or math.nan
        yield f"{name} was evaluated every {known[name]:,.0f} s, not every {expected_s:,.0f} s"


def _times_s(path: Path) -> list[float]:
    """Return the submission times of a log as far as they can be read."""
    try:
        text = read_regular_file(path, max_bytes=_MOST_BYTES).decode(errors="replace")
    except OSError:
        return []  # whoever reads the whole tree complains
    times = []
    try:
        for row in csv.DictReader(text.splitlines()):
            time_s = float(row.get(TIME) or math.nan)
            if math.isfinite(time_s):
                times.append(time_s)
    except (csv.Error, ValueError, TypeError):
        pass
    return times


def _budget_s(log: Path) -> float | None:
    try:
        facts = json.loads(read_regular_file(log.with_name(_META_DATA), max_bytes=_MOST_BYTES))
        return float(facts[_BUDGET_KEY])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
