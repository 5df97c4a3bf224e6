"""How a workload's mini targets are set: run it again to check them.

The recipe is fixed beforehand: one submission and point, the workload's own step budget, evaluations by steps (so that
a busy machine changes nothing). Every seed trains to the end of the budget. The scored target is the median over seeds
of the best validation metric (the benchmark's own rule); the smoke target must be reached by every seed, and missed by
the controls: a learning rate of (nearly) zero, a tenth of it, and one that is a hundred times too high. That is a
hundred times the best one of the point's rate and its multiples by ten: where norms follow every layer, a small network
wants more than the point's own. Test values choose nothing.

    python benchmarks/targets.py WORKLOAD [--data NAME] [--seeds 10] [--evaluations 20] [key=value ...]
"""

from __future__ import annotations

import argparse
import math
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perfbench.compose import compose_submission, compose_workload
from perfbench.results.store import TrialFolder
from perfbench.spec.submission import PointSpace
from perfbench.spec.workload import Direction, ScaleName, Target, TargetKind, WorkloadSpec

CONTROLS = {
    "learning rate 0 (1e-9 of it)": 1e-9,
    "learning rate / 10": 0.1,
    "learning rate x 10": 10.0,
    "learning rate x 100": 100.0,
    "learning rate x 1,000": 1_000.0,
    "learning rate x 10,000": 10_000.0,
}
TOO_HIGH = 100.0
NEVER = {Direction.MINIMIZE: -1e9, Direction.MAXIMIZE: 1e9}
"""A target that no run reaches, so that each one spends its budget."""


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="given to every run")
    parser.add_argument("--data", help="data set; the workload's default otherwise")
    parser.add_argument("--submission", default="baseline")
    parser.add_argument("--point", type=int, default=1, help="trial whose point of the search space is used")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=20, help="evenly spread over the step budget")
    parser.add_argument("--runs-root", type=Path, default=Path("runs/targets"))
    arguments = parser.parse_intermixed_args()  # overrides may follow options
    workload = compose_workload(arguments.workload, scale=ScaleName.MINI.value, dataset=arguments.data)
    target = next(iter(workload.targets.values()))
    console = Console()
    table = Table("run", f"best {target.metric}", "at step", "test there", "smoke target at", "steps", "s of CPU")
    best = []
    for seed in range(arguments.seeds):
        trial = run(arguments, workload, f"seed_{seed}", f"seed={seed}")
        best.append(add_row(table, f"{arguments.submission}, point {arguments.point}, seed {seed}", trial, target))
    by_factor = {1.0: statistics.median(best)}
    for name, factor in CONTROLS.items():
        trial = run(arguments, workload, re.sub(r"\W+", "_", name), scaled_points(arguments.submission, factor))
        by_factor[factor] = add_row(table, name, trial, target)
    console.print(table)
    print_too_high(console, by_factor, target)
    console.print(f"scored target (median of best): {statistics.median(best):.5g}")
    console.print(f"best of each seed: {min(best):.5g} to {max(best):.5g}")


Trial = tuple[TrialFolder, float]
"""A finished trial and the seconds of CPU that it took here (0 if it was there already)."""


def run(arguments: argparse.Namespace, workload: WorkloadSpec, name: str, *overrides: str) -> Trial:
    """Run one trial to the end of its step budget, unless it is there already."""
    root = arguments.runs_root / workload.name / workload.dataset / name
    direction = next(iter(workload.targets.values())).direction
    command = [
        *(sys.executable, "-m", "perfbench", "run", f"workload={workload.name}", f"data={workload.dataset}"),
        *(f"submission={arguments.submission}", f"trial={arguments.point}", "scale.target=scored"),
        *(f"workload.targets.scored.threshold={NEVER[direction]}", "workload.max_submission_time_s=1e6"),
        *("evaluation=every_steps", f"evaluation.every_steps={max(1, workload.step_hint // arguments.evaluations)}"),
        *(f"runs_root={root}", "scale.checkpoint_period_s=1e6", *arguments.overrides, *overrides),
    ]
    before_s = cpu_of_children_s()
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    folder = TrialFolder(root / arguments.submission / "study_0" / workload.name / f"trial_{arguments.point}")
    if not folder.measurements():
        sys.exit(f"{' '.join(command)}\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return folder, cpu_of_children_s() - before_s


def print_too_high(console: Console, by_factor: dict[float, float], target: Target) -> None:
    """Say what a rate reached that is a hundred times the best one."""
    sign = 1 if target.direction is Direction.MAXIMIZE else -1
    tried = {factor: value for factor, value in by_factor.items() if factor * TOO_HIGH in by_factor}
    finite = {factor: value for factor, value in tried.items() if not math.isnan(value)}
    factor = max(finite, key=lambda factor: sign * finite[factor])
    console.print(
        f"best rate: {factor:g} times the point's; {TOO_HIGH:g} times that reached {by_factor[factor * TOO_HIGH]:.5g}"
    )


def cpu_of_children_s() -> float:
    """Return the processor time of all ended child processes: unlike wall time, it tells the cost on a busy machine."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def scaled_points(submission: str, factor: float) -> str:
    """Return the submission's points as an override, with another learning rate."""
    space = compose_submission(submission).search_space
    assert isinstance(space, PointSpace), "only submissions with a list of points can set targets"
    points = [{**point, "learning_rate": float(str(point["learning_rate"])) * factor} for point in space.points]
    text = str(points).replace("'", "").replace("None", "null").replace("True", "true").replace("False", "false")
    return f"submission.search_space.points={text}"


def add_row(table: Table, name: str, trial: Trial, target: Target) -> float:
    """Add what a trial reached; return its best validation metric (a diverged run may end before any)."""
    folder, cpu_s = trial
    measurements, spec = folder.measurements(), folder.trial()
    sign = 1 if target.direction is Direction.MAXIMIZE else -1
    finite = [m for m in measurements if target.metric in m.metrics and m.metrics[target.metric] * 0 == 0]
    if not finite:
        table.add_row(name, "none", "", "", "never", f"{measurements[-1].step:,}", f"{cpu_s:.0f}")
        return float("nan")
    best = max(finite, key=lambda measurement: sign * measurement.metrics[target.metric])
    smoke = spec.workload.targets.get(TargetKind.SMOKE)
    reached = [m.step for m in measurements if smoke is not None and smoke.is_reached_by(m.metrics)]
    test_metric = "test/" + target.metric.partition("/")[2]
    cells = (
        f"{best.metrics[target.metric]:.5g}",
        f"{best.step:,}",
        f"{best.metrics.get(test_metric, float('nan')):.5g}",
        f"{reached[0]:,}" if reached else "never",
        f"{measurements[-1].step:,}",
        f"{cpu_s:.0f}",
    )
    table.add_row(name, *cells)
    return best.metrics[target.metric]


if __name__ == "__main__":
    main()
