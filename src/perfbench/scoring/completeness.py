"""What is missing from a board, said so that nobody can overlook it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import TrialLog
from perfbench.scoring.gap import Cause, Gap
from perfbench.scoring.times import Times
from perfbench.spec.result import Crashed


def gaps_of(logs: Sequence[TrialLog], times: Times, submissions: Sequence[str], benchmark: Benchmark) -> Iterator[Gap]:
    """Yield what makes the board partial: one per submission and kind of gap."""
    unscorable = Counter((log.key.submission, log.why_unscorable) for log in logs if not log.is_scorable)
    for (submission, why), count in sorted(unscorable.items()):
        text = f"{_count(count, 'trial')} left out: {why or 'not scorable'}"
        yield Gap(Cause.UNSCORABLE, submission, text, submission)
    crashed = Counter(
        (log.key.submission, log.key.workload) for log in logs if log.is_scorable and isinstance(log.outcome, Crashed)
    )
    for submission in submissions:
        gaps: dict[tuple[Cause, str], list[str]] = defaultdict(list)
        for workload in benchmark.workloads:
            found = times.get((submission, workload))
            if found is None:
                gaps[Cause.NOT_RUN, "not run, so not reached"].append(workload)
                continue
            if len(found.studies) < benchmark.num_studies:
                gaps[Cause.STUDIES, f"{len(found.studies)} of {benchmark.num_studies} studies"].append(workload)
            num_trials = sum(study.num_trials for study in found.studies)
            expected = benchmark.num_trials * len(found.studies)
            if num_trials < expected:
                gaps[Cause.TRIALS, f"{num_trials} of {expected} trials in the studies run"].append(workload)
            if num_crashed := crashed[submission, workload]:
                gaps[Cause.CRASHED, f"{_count(num_crashed, 'trial')} crashed"].append(workload)
            if found.num_unfinished:
                unfinished = _count(found.num_unfinished, "trial")
                text = f"provisional, {unfinished} not finished and counted as measured so far"
                gaps[Cause.PROVISIONAL, text].append(workload)
        for (cause, text), workloads in gaps.items():
            where = _listed(workloads, len(benchmark.workloads))
            yield Gap(cause, submission, f"{text} on {where}", submission)


def notes_of(
    logs: Sequence[TrialLog], submissions: Sequence[str], benchmark: Benchmark, *, as_published: bool
) -> Iterator[str]:
    """Yield what a reader should know though nothing is missing."""
    foreign = Counter(log.key.workload for log in logs if log.key.workload not in benchmark.workloads)
    for workload, count in sorted(foreign.items()):
        yield f"{workload}: {_count(count, 'trial')} left out, the workload is not part of {benchmark.name}"
    forms = {(log.key.submission, log.adapted) for log in logs if log.adapted and log.key.submission in submissions}
    for submission, form in sorted(forms):
        yield f"{submission}: {form}"
    if benchmark.hardware:
        yield f"timed on {benchmark.hardware}"
    if benchmark.is_smoke:
        yield "smoke targets: they show that a submission trains, not how good it is"
    if as_published and benchmark.as_published is not None:
        yield f"as published, not by the rules: {benchmark.as_published.source}"
    if len(submissions) == 1:
        yield "one submission: every ratio is to itself"


def _listed(workloads: Sequence[str], num_workloads: int) -> str:
    return "all workloads" if len(workloads) == num_workloads > 1 else ", ".join(workloads)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
