"""``perfbench verify``: whether trial folders can be believed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfbench.results.trials import RecordedTrial
    from perfbench.scoring.finding import Finding
    from perfbench.spec.workload import WorkloadSpec

CHECKS = (
    "schema",
    "order",
    "clock",
    "result",
    "seed",
    "environment",
    "missing",
    "request",
    "attempts",
    "chain",
    "telemetry",
    "isolation",
    "rest",
    "folder",
    "replay",
)

_ALIKE_EVERYWHERE = ("targets", "params")
_ALIKE_AT_MINI = ("step_hint", "max_submission_time_s", "eval_period_s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="folders with trials, at any depth (default: runs)"
    )
    parser.add_argument("--benchmark", metavar="NAME", help="look at published AlgoPerf logs instead, as for score")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="CHECK",
        help=f"show findings of a check without failing: {', '.join(CHECKS)}",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print every finding; 1 if there is one."""
    from collections import Counter

    from rich.console import Console
    from rich.markup import escape

    from perfbench.cli.boards import input_paths
    from perfbench.errors import ConfigError, ExitCode, nearest_name_hint, printable

    for check in arguments.allow:
        if check not in CHECKS:
            raise ConfigError(
                f"no check named {check!r}", where="--allow", hint=nearest_name_hint(check, CHECKS, kind="checks")
            )
    console = Console(soft_wrap=True)
    with console.status("checking every record"):
        findings, num_trials = _findings(input_paths(arguments.paths), arguments.benchmark)
    for finding in findings:
        colour = "dim" if finding.check in arguments.allow else "yellow"
        console.print(
            f"[{colour}]{finding.check}[/]: {escape(printable(finding.path))}: {escape(printable(finding.what))}"
        )
    counts = Counter(finding.check for finding in findings)
    summary = ", ".join(f"{count} {check}" for check, count in sorted(counts.items())) or "nothing wrong"
    console.print(f"{num_trials} trials verified: {summary}")
    is_refused = any(check not in arguments.allow for check in counts)
    return int(ExitCode.RUN_FAILED if is_refused else ExitCode.DONE)


def _findings(paths: list[Path], benchmark: str | None) -> tuple[list[Finding], int]:
    from perfbench.cli.boards import read_own_trials, read_published
    from perfbench.scoring.finding import Finding
    from perfbench.scoring.verify import verify_trials

    if (published := read_published(paths, benchmark)) is not None:
        from perfbench.scoring.board import leaderboard

        found = [Finding("schema", complaint.path, complaint.what) for complaint in published.complaints]
        warnings = leaderboard(published.logs, published.benchmark).warnings
        found += [Finding("missing", paths[0], warning) for warning in warnings]
        return found, len(published.logs)
    reading = read_own_trials(paths)
    schema = [
        Finding("schema", complaint.path, complaint.what)
        for complaint in reading.complaints
        if not complaint.is_harmless
    ]
    return [*schema, *verify_trials(reading.trials), *_other_than_shipped(reading.trials)], len(reading.trials)


def _other_than_shipped(trials: Sequence[RecordedTrial]) -> Iterator[Finding]:
    """Yield trials of a workload of ours and its version that was another one: an easier target is no faster time.

    Ruleset and scale give budgets and periods of their own at full scale: there only what they leave alone is compared.
    """
    from perfbench.compose import compose_workload
    from perfbench.errors import PerfbenchError
    from perfbench.scoring.finding import Finding
    from perfbench.spec.workload import ScaleName

    shipped: dict[tuple[str, str, str], WorkloadSpec | None] = {}
    for trial in trials:
        workload = trial.spec.workload
        name = (workload.name, workload.scale.value, workload.dataset)
        if name not in shipped:
            shipped[name] = None
            with suppress(PerfbenchError):  # somebody's own workload or data set
                shipped[name] = compose_workload(name[0], scale=name[1], dataset=name[2])
        ours = shipped[name]
        if ours is None or ours.version != workload.version:
            continue
        fields = _ALIKE_EVERYWHERE + (_ALIKE_AT_MINI if workload.scale is ScaleName.MINI else ())
        differing = [field for field in fields if getattr(workload, field) != getattr(ours, field)]
        if trial.spec.target != ours.targets.get(trial.spec.scale.target) and "targets" not in differing:
            differing.append("target")
        for field in differing:
            what = f"{field} of {workload.name} is not what configs/workload/{workload.name}.yaml says of this version"
            yield Finding("request", trial.path, what)
