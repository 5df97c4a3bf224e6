"""Which submission reaches which workload's smoke target at mini scale, and whether that says anything of full scale.

Each submission runs its points one after another, in their order, until one reaches the target: first the first point
of all, then the others. Evaluations are by steps, 40 over the budget, so that a busy machine changes the seconds but
neither steps nor outcomes. Then, on one workload by which nothing is compared, the learning rate of each first point
is tried at several factors, and the points run again with the best: whether a full-scale rate fits a small task is
another question than which algorithm is better.

What has run stands in one JSON file and is not run again: the board can be made in many sittings, beside other work (it
lowers its own priority), and after every trial its page is drawn anew.

    make mini-board ARGS="--workloads all [--submissions all] [--max-trials 5] [--hours 2]"
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.mini_page import write_page
from benchmarks.mini_plan import RATE, Job, Wanted, facts_of, rate_of, workload_of
from benchmarks.mini_results import Published, Ran, Results
from perfbench.config_files import choices
from perfbench.errors import PerfbenchError
from perfbench.results.locks import held
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, TargetReached

NUM_EVALUATIONS = 40
_PUBLISHED = Path(__file__).with_name("published_boards.yaml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, a trial at a time, and keep results and page."""
    arguments = arguments_of(argv)
    published = Published.read(_PUBLISHED)
    wanted = wanted_of(arguments, published)
    os.nice(arguments.nice)
    until_s = time.monotonic() + 3600 * arguments.hours
    results = Results.read(arguments.results, num_evaluations=NUM_EVALUATIONS)
    arguments.runs_root.mkdir(parents=True, exist_ok=True)
    with held(arguments.runs_root / "board.lock", busy="another mini board runs here"):
        while not arguments.only_write and (job := next(wanted.missing(results), None)) is not None:
            if time.monotonic() > until_s:
                print("out of time: the same command goes on")
                break
            print(f"{datetime.now(UTC):%H:%M:%S} {job.submission} on {job.workload}: {_what(job)}", flush=True)
            results = results.with_one(_ran(arguments, job))
            print(f"         {results.ran[-1].outcome}, step {results.ran[-1].step}", flush=True)
            results.write(arguments.results)
            write_page(arguments.page, wanted, results, published)
    write_page(arguments.page, wanted, results, published)
    print(f"wrote {arguments.page}")
    return 0


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default="all", help="separated by commas; all")
    parser.add_argument("--submissions", default="all", help="separated by commas; all")
    parser.add_argument("--max-trials", type=int, default=5, help="points of a submission at most")
    parser.add_argument("--hours", type=float, default=1e6, help="begin no trial after so many")
    parser.add_argument("--trial-minutes", type=float, default=30.0, help="of training: a trial's time budget")
    parser.add_argument("--nice", type=int, default=15, help="added to the own priority number")
    parser.add_argument("--runs-root", type=Path, default=Path("runs/mini_board"))
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--results", type=Path, default=Path("docs/mini-board.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/mini-board.md"))
    parser.add_argument("--only-write", action="store_true", help="run nothing: the page of what has run")
    return parser.parse_args(argv)


def wanted_of(arguments: argparse.Namespace, published: Published) -> Wanted:
    """Return what the board shall hold."""
    return Wanted(
        workloads=_chosen(arguments.workloads, "workload", published.order),
        submissions=_chosen(arguments.submissions, "submission", _in_order(published)),
        max_trials=arguments.max_trials,
        rescaled_on=published.rescaled_on,
        first=frozenset(published.boards[0].scores),
    )


def _chosen(asked: str, group: str, order: Sequence[str]) -> tuple[str, ...]:
    """Return the names that were asked for; under `all` those of the order that are here."""
    here = choices(group)
    names = [name for name in order if name in here] if asked == "all" else asked.split(",")
    if unknown := [name for name in names if name not in here]:
        sys.exit(f"no {group} named {', '.join(unknown)}")
    return tuple(names)


def _in_order(published: Published) -> list[str]:
    """Return the submissions: entries of published boards, then external ones, then self-tuning ones."""
    entries = published.entries()
    others = sorted(set(choices("submission")) - set(entries), key=lambda name: (not facts_of(name).is_external, name))
    return [*entries, *others]


def _what(job: Job) -> str:
    return f"point {job.point}" + ("" if job.factor == 1.0 else f", rate x {job.factor:g}")


def _ran(arguments: argparse.Namespace, job: Job) -> Ran:
    """Run a trial, or continue it, and return what came of it."""
    root: Path = arguments.runs_root / ("as_published" if job.factor == 1.0 else f"rate_x_{job.factor:g}_{job.point}")
    command = [*(sys.executable, "-m", "perfbench", "run"), *overrides_of(arguments, job, root), "--quiet"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if (folder := _folder(root, job)) is None:
        what = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:]
        raise PerfbenchError(f"the trial did not begin: {what}", where=" ".join(command))
    result, environment = folder.result(), folder.environment()
    cpu = environment.cpu_model
    if result is None:
        raise PerfbenchError("the trial has no end: the same command goes on with it", where=str(folder.path))
    reached = result.outcome if isinstance(result.outcome, TargetReached) else None
    crash = f": {result.outcome.reason}" if isinstance(result.outcome, Crashed) else ""
    return Ran(
        workload=job.workload,
        submission=job.submission,
        point=job.point,
        factor=job.factor,
        outcome=result.outcome.kind + crash,
        step=None if reached is None else reached.step,
        submission_time_s=None if reached is None else round(reached.submission_time_s, 2),
        num_steps=result.num_steps,
        best_metric=result.best_metric,
        machine=f"{cpu}, {environment.threads_per_rank} thread, torch {environment.packages['torch']}",
        date=f"{datetime.now(UTC).date()}",
    )


def overrides_of(arguments: argparse.Namespace, job: Job, root: Path) -> list[str]:
    """Return what the trial is composed of: its steps end it, unless the machine is hopelessly slow."""
    every_steps = max(1, workload_of(job.workload).step_hint // NUM_EVALUATIONS)
    overrides = [
        *(f"workload={job.workload}", f"submission={job.submission}", f"trial={job.point}"),
        *("evaluation=every_steps", f"evaluation.every_steps={every_steps}", f"runs_root={root}"),
        *(f"data_root={arguments.data_root}", f"workload.max_submission_time_s={60 * arguments.trial_minutes}"),
    ]
    rate = rate_of(job.submission, job.point)
    if job.factor != 1.0 and rate is not None:
        overrides.append(f"hp.{RATE}={rate * job.factor!r}")
    return overrides


def _folder(root: Path, job: Job) -> TrialFolder | None:
    """Return the trial's folder; with another rate it is an explored one, and the only one of its root."""
    if job.factor == 1.0:
        path = root / job.submission / "study_0" / job.workload / f"trial_{job.point}"
        return TrialFolder(path) if path.exists() else None
    found = sorted((root / job.submission / "explored" / job.workload).glob("*/run.json"))
    return TrialFolder(found[0].parent) if found else None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PerfbenchError as problem:
        sys.exit(f"mini board: {problem}")
    except KeyboardInterrupt:
        sys.exit("mini board: interrupted; the same command goes on")
