"""What sweep and resume share: the plan shown, then submitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from perfbench.errors import ExitCode, PerfbenchError
from perfbench.launch.changed_code import CodeNow, OnChangedCode, check_code, make_ready
from perfbench.launch.slurm import controller
from perfbench.launch.slurm.arrays import (
    DEFAULT_MAX_ARRAY_SIZE,
    ArrayPlan,
    check_time_limits,
    counted,
    hours_at_most,
    plan_arrays,
    rank_hours_at_most,
)
from perfbench.launch.slurm.disk import disk_bytes_at_most
from perfbench.launch.slurm.manifest import submitting
from perfbench.launch.slurm.queue import array_jobs, held_jobs, jobs_by_trial
from perfbench.launch.slurm.submission import check_paths, check_site, doubts_of_plan, submit, texts
from perfbench.launch.states import TrialState
from perfbench.launch.sweep import SweptTrial, look_up, to_submit
from perfbench.places import command
from perfbench.results.store import TrialFolder
from perfbench.spec.run import SlurmCluster, TrackingSpec, TrialSpec

_MAX_TEXTS = 4


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """What besides the trials decides about a submission."""

    is_dry: bool
    """Only show the plan and the job scripts."""
    retry_failed: bool
    tracking: TrackingSpec
    problems: tuple[PerfbenchError, ...] = ()
    """Already found by whoever asks: shown with the others."""
    on_changed_code: OnChangedCode = OnChangedCode.REFUSE
    names_held: bool = True
    """Whether to say which jobs wait for a release; what releases them has said so itself."""


def submit_or_show(
    trials: Sequence[TrialSpec],
    cluster: SlurmCluster,
    runs_root: Path,
    console: Console,
    options: SubmitOptions,
) -> int:
    """Show the plan; then print the job scripts (``is_dry``), or submit what nothing takes care of.

    Raises:
        LaunchError: If there is no Slurm, or it refuses something.
    """
    if options.is_dry:
        return _submit_or_show(trials, cluster, runs_root, console, options)
    controller.require_slurm()
    check_paths(runs_root)  # before anything is written there
    with submitting(runs_root):
        return _submit_or_show(trials, cluster, runs_root, console, options)


def _submit_or_show(
    trials: Sequence[TrialSpec], cluster: SlurmCluster, runs_root: Path, console: Console, options: SubmitOptions
) -> int:
    has_slurm = not options.is_dry or controller.is_reachable()  # a plan can be made anywhere
    queue = controller.queued_jobs() if has_slurm else []
    max_array_size = controller.max_array_size() if has_slurm else DEFAULT_MAX_ARRAY_SIZE
    jobs = jobs_by_trial(runs_root, queue)
    code = CodeNow()
    check_code(trials, runs_root, options.on_changed_code, code=code, under_way=jobs)
    if options.on_changed_code is OnChangedCode.START_ANEW:
        swept = [SweptTrial(trial, TrialState.PLANNED) for trial in trials]
    else:
        swept = look_up(trials, runs_root, jobs)
    wanted = to_submit(swept, retry_failed=options.retry_failed)
    arrays = plan_arrays(wanted, cluster, max_array_size=max_array_size)
    console.print(_states_line(swept), highlight=False)
    asked_for = {TrialFolder.of(runs_root, trial).path for trial in trials}
    held = held_jobs(job for folder, job in jobs.items() if folder in asked_for)
    if held and options.names_held:
        console.print(f"held by Slurm: {', '.join(held)}; `perfbench resume {runs_root}` releases", highlight=False)
    if not arrays:
        console.print("nothing to submit")
        return int(ExitCode.DONE)
    _print_plan(arrays, cluster, runs_root, console)
    if options.is_dry:
        _print_texts(arrays, cluster, runs_root, console)
        return show_problems(
            (*options.problems, *_problems(arrays, cluster, runs_root, console, ask=has_slurm)), console
        )
    check_time_limits(arrays, cluster)

    def claim(trial: TrialSpec, folder: TrialFolder) -> bool:
        return make_ready(trial, folder, options.on_changed_code, code=code, tell=console.print)

    done = submit(
        arrays, cluster, runs_root, after=array_jobs(runs_root, queue), tracking=options.tracking, claim=claim
    )
    for doubt in done.doubts:
        console.print(f"[yellow]warning[/]: Slurm takes the jobs, but {doubt}", highlight=False)
    console.print(f"submitted: {', '.join(done.job_ids)}; scores will be made by job {done.aggregation_job_id}")
    console.print(f"watch it: {command()} status {runs_root} --watch   (nothing has to stay open here)")
    return int(ExitCode.DONE)


def _problems(
    arrays: Sequence[ArrayPlan], cluster: SlurmCluster, runs_root: Path, console: Console, *, ask: bool
) -> Iterator[PerfbenchError]:
    """Yield everything for which submitting would be refused; where Slurm has doubts they are shown."""
    checks = [
        partial(check_time_limits, arrays, cluster),
        partial(check_site, cluster),
        partial(check_paths, runs_root),
    ]
    for check in checks:
        try:
            check()
        except PerfbenchError as problem:
            yield problem
    if not ask:
        return
    try:
        for doubt in doubts_of_plan(arrays, cluster, runs_root):
            console.print(f"[yellow]warning[/]: Slurm would take the jobs, but {doubt}", highlight=False)
    except PerfbenchError as problem:
        yield problem


def show_problems(problems: Iterable[PerfbenchError], console: Console) -> int:
    """Print what would be refused; return the exit code."""
    found = list(problems)
    for problem in found:
        console.print(f"[red]would be refused[/]: {escape(str(problem))}", highlight=False)
    return int(ExitCode.IMPOSSIBLE_REQUEST if found else ExitCode.DONE)


def _states_line(swept: Sequence[SweptTrial]) -> str:
    counts = Counter(one.state.value.replace("_", " ") for one in swept)
    return f"{counted(len(swept), 'trial')}: " + ", ".join(
        f"{count:,} {state}" for state, count in sorted(counts.items())
    )


def _print_plan(arrays: Sequence[ArrayPlan], cluster: SlurmCluster, runs_root: Path, console: Console) -> None:
    table = Table(title="to submit", title_justify="left")
    hours = "GPU-hours" if cluster.request_gpus else "rank-hours"
    for name in ("array", "trials", "ranks", "time limit", f"{hours} at most"):
        table.add_column(name, justify="left" if name == "array" else "right")
    for array in arrays:
        limit = f"{array.time_limit_min // 60}:{array.time_limit_min % 60:02d} h"
        ranks = f"{cluster.nodes} x {cluster.gpus_per_node}"
        table.add_row(array.title, f"{len(array.trials)}", ranks, limit, f"{rank_hours_at_most([array]):,.1f}")
    console.print(table)
    num_trials = sum(len(array.trials) for array in arrays)
    num_running = cluster.array_parallelism * len(arrays)
    disk = decimal(disk_bytes_at_most(arrays, cluster, runs_root))
    console.print(
        f"{counted(len(arrays), 'job')} with {counted(num_trials, 'element')}, "
        f"{rank_hours_at_most(arrays):,.1f} {hours} at most "
        f"({hours_at_most(arrays, num_running=min(num_running, num_trials)):,.1f} h if all may run at once), "
        f"{disk} of disk at most, and one job that scores",
        highlight=False,
    )


def _print_texts(arrays: Sequence[ArrayPlan], cluster: SlurmCluster, runs_root: Path, console: Console) -> None:
    for text in texts(arrays[:_MAX_TEXTS], cluster, runs_root):
        console.print(text, markup=False, highlight=False)
    if len(arrays) > _MAX_TEXTS:
        console.print(f"... and {len(arrays) - _MAX_TEXTS} more, which differ in name, folder, time limit and size")
