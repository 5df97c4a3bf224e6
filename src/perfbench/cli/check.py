"""``perfbench check workload|submission NAME``: the contract, without pytest."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perfbench.api.contracts.finding import Finding
from perfbench.cli.progress import data_progress
from perfbench.compose import choices, compose_run, compose_workload
from perfbench.errors import ExitCode
from perfbench.launch.preflight import ensure_data
from perfbench.registry import (
    build_workload,
    hyperparameters_type,
    submission_builder,
    submission_folder,
    with_stand_ins,
)
from perfbench.spec.submission import HyperparameterPoint, SubmissionSpec
from perfbench.spec.workload import ScaleName
from perfbench.tuning.sampler import points_for_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("kind", choices=["workload", "submission"])
    parser.add_argument("name", help="its name; for a submission outside of the repository, the path of its folder")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="for submissions: e.g. submission.options.NAME=VALUE"
    )
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="for workloads: checked on mini data")


def run(arguments: argparse.Namespace) -> int:
    """Run the conformance suite and print each check; exit with 1 if one fails."""
    console = Console(soft_wrap=True)
    if arguments.kind == "workload":
        findings = _workload_findings(arguments.name, arguments.data_root.resolve(), console)
    else:
        findings = _submission_findings(arguments.name, arguments.overrides, console)
    table = Table("check", "", "seen")
    for finding in findings:
        table.add_row(finding.name, "[green]ok[/]" if finding.passed else "[red]failed[/]", finding.detail)
    console.print(table)
    failed = [finding for finding in findings if not finding.passed]
    console.print(f"{arguments.kind} {arguments.name}: {len(findings) - len(failed)} of {len(findings)} checks passed")
    return int(ExitCode.RUN_FAILED if failed else ExitCode.DONE)


def _workload_findings(name: str, data_root: Path, console: Console) -> list[Finding]:
    workload = compose_workload(name, scale=ScaleName.MINI.value)
    with data_progress(console) as progress:
        ensure_data(workload, data_root, progress, may_prepare=True)
    from perfbench.api.contracts.workload import check_workload

    return check_workload(build_workload(workload, data_root))


def _submission_findings(name: str, overrides: Sequence[str], console: Console) -> list[Finding]:
    """Check a submission at the first and the last point of study 0, on stand-ins for files that are not given."""
    request = compose_run([f"submission={name}", *overrides])
    with tempfile.TemporaryDirectory() as folder:
        spec = with_stand_ins(request.submission, Path(folder))
        made_up = sorted(file for file in spec.files if spec.files[file] != request.submission.files[file])
        if made_up:
            console.print(f"checked with stand-ins for files that are not given: {', '.join(made_up)}")
        return _findings_of(spec, points_for_study(spec, request.ruleset, study=0, run_seed=0))


def _findings_of(spec: SubmissionSpec, points: Sequence[HyperparameterPoint | None]) -> list[Finding]:
    from perfbench.api.contracts.conduct import check_conduct
    from perfbench.api.contracts.submission import check_hyperparameters, check_points, check_source

    findings = check_source(submission_folder(spec), workload_names=choices("workload"))
    chosen = {f"point {number}": points[number - 1] for number in sorted({1, len(points)})}
    findings += check_points({label: submission_builder(spec, point) for label, point in chosen.items()})
    for label, point in chosen.items():
        conduct = check_conduct(
            submission_builder(spec, point),
            state_bytes_per_parameter=spec.state_bytes_per_parameter,
            waits_per_step=spec.waits_per_step,
        )
        findings += [dataclasses.replace(finding, name=f"{label}: {finding.name}") for finding in conduct]
        if point is not None:
            read = check_hyperparameters(hyperparameters_type(spec), point)
            findings += [dataclasses.replace(finding, name=f"{label}: {finding.name}") for finding in read]
    return findings
