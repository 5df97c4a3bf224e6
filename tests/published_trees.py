"""Writes trees of logs as a published board has them: evaluations every period, up to a time at the target."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from perfbench.results.benchmark import Benchmark
from perfbench.spec.workload import Direction

TimeOf = Callable[[str, str, int, int], float]
"""Seconds to the target of a submission's workload, study and trial; infinite: never."""


def write_tree(
    root: Path,
    benchmark: Benchmark,
    time_of: TimeOf,
    *,
    submissions: Iterable[str] = ("one",),
    workloads: Iterable[str] | None = None,
    with_meta_data: bool = False,
) -> Path:
    """Write every study and trial of the benchmark and return the root."""
    for submission in submissions:
        for workload in benchmark.workloads if workloads is None else workloads:
            for study in range(benchmark.num_studies):
                for trial in range(1, benchmark.num_trials + 1):
                    folder = root / submission / f"study_{study}" / f"{workload}_pytorch" / f"trial_{trial}"
                    folder.mkdir(parents=True)
                    text = log_text(benchmark, workload, time_of(submission, workload, study, trial))
                    (folder / "eval_measurements.csv").write_text(text)
                    if with_meta_data:
                        (folder / "meta_data_0.json").write_text(meta_data(benchmark, workload))
    return root


def log_text(benchmark: Benchmark, workload: str, time_s: float) -> str:
    """Return a log that ends at the target, or with the budget."""
    facts = benchmark.workloads[workload]
    target, period_s = facts.target, facts.eval_period_s or 1.0
    sign = 1 if target.direction is Direction.MINIMIZE else -1
    last_s = min(time_s, facts.max_submission_time_s)
    times = [period_s * number for number in range(1, math.ceil(last_s / period_s))]
    rows = [f"{one!r},{step},{target.threshold + sign * 0.01!r}" for step, one in enumerate(times, start=1)]
    value = target.threshold if time_s <= facts.max_submission_time_s else target.threshold + sign * 0.01
    rows.append(f"{last_s!r},{len(times) + 1},{value!r}")
    return "\n".join([f"accumulated_submission_time,global_step,{target.metric}", *rows, ""])


def meta_data(benchmark: Benchmark, workload: str) -> str:
    """Return the runner's own description of a run, whose budget is without the ruleset's factor."""
    budget_s = benchmark.workloads[workload].max_submission_time_s / benchmark.budget_factor
    return json.dumps({"workload.max_allowed_runtime_sec": budget_s, "gpu_count": 8})
