"""``perfbench replay``: a finished trial run again, and compared with its record."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from perfbench.cli.output import add_output_options

if TYPE_CHECKING:
    from rich.console import Console

    from perfbench.launch.replay import ReplayPlan
    from perfbench.spec.replay import Replay
    from perfbench.spec.run import Cluster


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("trial", type=Path, metavar="TRIAL", help="folder of a finished trial")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the cluster, e.g. cluster=slurm")
    parser.add_argument("--fraction", type=float, default=1.0, help="of its evaluations, the first ones (default: 1)")
    parser.add_argument("--data-root", type=Path, help="where the data is now (default: where it was)")
    parser.add_argument("--other-code", action="store_true", help="also where the code is not what it ran; on record")
    parser.add_argument(
        "--tolerance", type=float, default=0.05, help="relative, of metrics; 0 where bits repeat (default: 0.05)"
    )
    parser.add_argument(
        "--time-band", type=float, default=1.25, help="how much longer than recorded it may take (default: 1.25)"
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run it again, print and record the verdict; 1 where it differs."""
    from perfbench.cli.output import console_and_view
    from perfbench.cli.progress import data_progress
    from perfbench.errors import ExitCode
    from perfbench.launch.execute import execute_trial
    from perfbench.launch.preflight import check_trial
    from perfbench.launch.replay import plan_replay
    from perfbench.spec.replay import ReplayVerdict
    from perfbench.spec.run import NoTracking, SlurmCluster

    console, view = console_and_view(arguments, lines=False)
    plan = plan_replay(
        arguments.trial,
        fraction=arguments.fraction,
        data_root=arguments.data_root,
        other_code=arguments.other_code,
    )
    cluster = _cluster(plan, arguments.overrides)
    steps = plan.trial.evaluation.steps if plan.trial.evaluation.kind == "at_steps" else ()
    console.print(f"run again: {plan.trial.label()}, {len(steps)} of {len(plan.recorded.measurements)} evaluations")
    if isinstance(cluster, SlurmCluster):
        if not _is_done(plan):
            return _submitted(plan, cluster, console)
    else:
        with data_progress(console) as progress:
            check_trial(plan.trial, plan.runs_root, progress)
        execute_trial(plan.trial, cluster, NoTracking(kind="none"), plan.runs_root, view)
    replay = _compared(plan, arguments)
    _show(replay, plan, console)
    return int(ExitCode.DONE if replay.verdict is ReplayVerdict.CONFIRMED else ExitCode.RUN_FAILED)


def _cluster(plan: ReplayPlan, overrides: list[str]) -> Cluster:
    """Compose the cluster alone; everything else of the trial stands in its record."""
    from perfbench.compose import compose_run
    from perfbench.errors import ConfigError

    for override in overrides:
        if not override.lstrip("+").startswith("cluster"):
            raise ConfigError(
                "a replay runs what is on record", where=override, hint="only the cluster can be another one"
            )
    spec = plan.trial
    chosen = spec.submission.folder or spec.submission.name  # one from elsewhere is known by its path alone
    return compose_run([f"workload={spec.workload.name}", f"submission={chosen}", *overrides]).cluster


def _is_done(plan: ReplayPlan) -> bool:
    from perfbench.results.store import TrialFolder

    return TrialFolder.of(plan.runs_root, plan.trial).finished() is not None


def _submitted(plan: ReplayPlan, cluster: Cluster, console: Console) -> int:
    from perfbench.cli.arrays import SubmitOptions, submit_or_show
    from perfbench.spec.run import NoTracking, SlurmCluster

    assert isinstance(cluster, SlurmCluster)
    options = SubmitOptions(is_dry=False, retry_failed=True, tracking=NoTracking(kind="none"))
    code = submit_or_show([plan.trial], cluster, plan.runs_root, console, options)
    console.print("when it is done, the same command says the verdict")
    return code


def _compared(plan: ReplayPlan, arguments: argparse.Namespace) -> Replay:
    from datetime import UTC, datetime

    from perfbench.launch.replay import record_replay, traced_digests
    from perfbench.results.reader import read_trial
    from perfbench.results.store import TrialFolder
    from perfbench.scoring.replayed import Allowance, compare_with_replay

    original = TrialFolder(plan.recorded.path)
    again = TrialFolder.of(plan.runs_root, plan.trial)
    replayed = read_trial(again.path, [])
    assert replayed is not None, "it has just run"
    replay = compare_with_replay(
        plan.recorded,
        replayed,
        digests=(traced_digests(original), traced_digests(again)),
        allowance=Allowance(metrics=arguments.tolerance, times=arguments.time_band),
        is_same_code=plan.is_same_code,
        wall_time_utc=datetime.now(tz=UTC).isoformat(timespec="seconds"),
    )
    record_replay(original, replay)
    return replay


def _show(replay: Replay, plan: ReplayPlan, console: Console) -> None:
    from rich.markup import escape

    from perfbench.cli.listing import Listing, print_listing

    table = Listing(["what", "found"])
    table.add("evaluations", f"{replay.num_equal} of {replay.num_compared} equal bit for bit")
    if replay.largest_difference:
        table.add("largest difference", f"{replay.largest_difference:.3%} (allowed: {replay.tolerance:.3%})")
    if replay.num_digests_compared:
        table.add("traced states", f"{replay.num_digests_equal} of {replay.num_digests_compared} equal")
    if replay.time_ratio is not None:
        allowed = (
            "not judged: other hardware, or too short" if replay.time_band is None else f"up to {replay.time_band:.2f}"
        )
        table.add("time on the clock", f"{replay.time_ratio:.3f} of the recorded ({allowed})")
    table.add("isolation", replay.isolation)
    if not replay.is_same_code:
        table.add("code", "not what the trial ran")
    for reason in replay.reasons:
        table.add("differs", f"[red]{escape(reason)}[/]")
    print_listing(console, table)
    console.print(f"[bold]{replay.verdict.value}[/]; on record in {escape(str(plan.recorded.path / 'replay.json'))}")
