"""``perfbench check workload|submission NAME``: the contract, without pytest."""

from __future__ import annotations

import argparse
import dataclasses
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from perfbench.algoperf.folder import Folder, folder_of, is_theirs, read_folder
from perfbench.algoperf.report import doubts, recognised
from perfbench.api.contracts.finding import Attention, Finding
from perfbench.cli.progress import data_progress
from perfbench.compose import compose_run, compose_workload
from perfbench.config_files import OUTSIDE_FILE, choices
from perfbench.errors import ConfigError, ExitCode
from perfbench.launch.plan import num_gpus
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

_NAMES_SHOWN = 3
_HINTS = {
    "resumes bit for bit": "whatever the next steps depend on belongs into state_dict and load_state_dict",
    "reduces the loss": "no point of the search space trains any better: are its values right?",
    "leaves no trace": "state outside of state_dict (a module's global, a cache) survives load_state_dict",
    "same trajectory": "draw random numbers from torch's generators only, or from one seeded with context.seed",
    "weights untouched": "resume_training has to undo what prepare_for_eval did",
    "names and shapes": "prepare_for_eval returns a model of the workload's own class with other values",
    "detached scalars": "return StepReport(loss=loss.detach()) from update_params",
    "declared memory": "state_bytes_per_parameter in the YAML is at most; the check has measured it",
    "declares its memory": "add state_bytes_per_parameter to the YAML",
    "waits for the device": ".item(), .tolist(), nonzero wait: keep tensors, or declare waits_per_step in the YAML",
    "another name of the model": "look at parameter roles or shapes, not at names of classes",
    "names no workload": "decide by what the context says: roles, shapes, loss_type",
    "by name": "let `class Hyperparameters(Spec)` read the point",
    "is accepted": "the YAML's search_space and the fields of Hyperparameters have the same names",
}
"""What an author does about a failed check, by a part of its name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("kind", choices=["workload", "submission"])
    parser.add_argument("name", help="its name; for a submission outside of the repository, the path of its folder")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="for submissions: e.g. submission.options.NAME=VALUE"
    )
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="for workloads: checked on mini data")
    parser.add_argument(
        "--only", metavar="NAME", help="for submissions: only checks with this in their name, e.g. resumes or 'point 1'"
    )
    parser.add_argument("--all", action="store_true", help="show every check, not only groups and failures")


def run(arguments: argparse.Namespace) -> int:
    """Run the conformance suite and print what it does and found; exit with 1 if a check fails."""
    console = Console(soft_wrap=True)
    started_s = time.monotonic()
    if arguments.kind == "workload":
        findings = _workload_findings(arguments.name, arguments.data_root.resolve(), console)
    else:
        findings = _submission_findings(arguments.name, arguments.overrides, console, arguments.only)
    failed = [finding for finding in findings if not finding.passed]
    if arguments.kind == "submission" and _algoperf_folder(arguments.name) is not None:
        _print_costs(console, findings)
    if arguments.all:
        for finding in findings:
            mark = "[green]ok[/]" if finding.passed else "[red]failed[/]"
            console.print(f"  {mark}  {escape(finding.name)}  [dim]{escape(finding.detail)}[/]", highlight=False)
    _print_causes(console, failed)
    seconds = time.monotonic() - started_s
    passed = f"{len(findings) - len(failed)} of {len(findings)} checks passed"
    colour = "red" if failed else "green"
    console.print(f"{arguments.kind} {arguments.name}: [{colour}]{passed}[/] in {seconds:.0f} s", highlight=False)
    return int(ExitCode.RUN_FAILED if failed else ExitCode.DONE)


def _print_costs(console: Console, findings: Sequence[Finding]) -> None:
    """Print what was measured of a submission that declares nothing: the most of any problem and point."""
    for part, pattern in (
        ("bytes of state per parameter", r"([\d.]+) were seen"),
        ("waits per step", r"([\d.]+) waits"),
    ):
        seen = [float(match[1]) for finding in findings if (match := re.search(pattern, finding.detail))]
        if seen:
            console.print(f"  at most {max(seen):g} {part}, on the small models", highlight=False)


def causes(failed: Sequence[Finding]) -> list[tuple[str, list[str]]]:
    """Return what failed checks have in common: the cause and the names of its checks, the most frequent first.

    Details that differ only in numbers are one cause: a step, a count of elements.
    """
    groups: dict[str, list[Finding]] = {}
    for finding in failed:
        groups.setdefault(re.sub(r"\d+(\.\d+)?", "#", finding.detail or finding.name), []).append(finding)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [(group[0].detail or "it does not hold", [finding.name for finding in group]) for group in ordered]


def hint_for(name: str) -> str:
    """Return what an author does about a failed check; empty where its detail says all."""
    return next((hint for part, hint in _HINTS.items() if part in name), "")


def _print_causes(console: Console, failed: Sequence[Finding]) -> None:
    for number, (cause, names) in enumerate(causes(failed), start=1):
        console.print(f"\n[red]{number}. {escape(cause)}[/]", highlight=False)
        for name in names[:_NAMES_SHOWN]:
            console.print(f"   failed: {escape(name)}", highlight=False)
        if len(names) > _NAMES_SHOWN:
            console.print(f"   and {len(names) - _NAMES_SHOWN} more checks, for the same reason")
        if not cause.startswith("raised") and (hint := hint_for(names[0])):
            console.print(f"   hint: {escape(hint)}", highlight=False)
    if failed:
        console.print()


def _workload_findings(name: str, data_root: Path, console: Console) -> list[Finding]:
    workload = compose_workload(name, scale=ScaleName.MINI.value)
    with data_progress(console) as progress:
        ensure_data(workload, data_root, progress, may_prepare=True)
    from perfbench.api.contracts.workload import check_workload

    _take_one_thread()
    with console.status("checking"):
        return check_workload(build_workload(workload, data_root))


def _submission_findings(name: str, overrides: Sequence[str], console: Console, only: str | None) -> list[Finding]:
    """Check a submission at the first and the last point of study 0, on stand-ins for files that are not given."""
    theirs = _algoperf_folder(name)
    if theirs is not None:
        _print_doubts(console, theirs)
    request = compose_run([f"submission={name}", *overrides])
    if theirs is not None:
        _print_recognised(console, theirs, request.submission)
    with tempfile.TemporaryDirectory() as folder:
        spec = with_stand_ins(request.submission, Path(folder))
        made_up = sorted(file for file in spec.files if spec.files[file] != request.submission.files[file])
        if made_up:
            console.print(f"checked with stand-ins for files that are not given: {', '.join(made_up)}")
        points = points_for_study(spec, request.ruleset, study=0, run_seed=0)
        seen: list[str] = []
        with _told(console) as tell:

            def wants(check: str) -> bool:
                seen.append(check)
                return only is None or only.lower() in check.lower()

            findings = _findings_of(spec, points, Attention(wants, tell))
    found = [finding for finding in findings if only is None or only.lower() in finding.name.lower()]
    if not found:
        known = sorted({check.rpartition(": ")[2] for check in seen})
        raise ConfigError(f"no check has {only!r} in its name", where="--only", hint=f"there are: {'; '.join(known)}")
    return found


def _algoperf_folder(name: str) -> Folder | None:
    """Return the folder that is named, read, if its submission has AlgoPerf's interface."""
    path = folder_of(Path(name).expanduser().resolve())
    is_adapted = "/" in name and is_theirs(path) and not (path / OUTSIDE_FILE).exists()
    return read_folder(path) if is_adapted else None


def _print_doubts(console: Console, folder: Folder) -> None:
    console.print(f"{escape(folder.path.name)} has AlgoPerf's interface: {escape(folder.entry.name)}", highlight=False)
    for doubt in doubts(folder, has_gpu=num_gpus() > 0):
        console.print(f"  [yellow]warning[/]  {escape(doubt)}", highlight=False)


def _print_recognised(console: Console, folder: Folder, spec: SubmissionSpec) -> None:
    dropout = str(spec.options.get("dropout", "as_run"))
    sizes = spec.batch_sizes.get(ScaleName.FULL, {})
    lines = recognised(folder, batch_sizes=sizes, dropout=dropout)
    width = max(len(what) for what, _ in lines)
    for what, found in lines:
        console.print(f"  {what:>{width}}  {escape(found)}", highlight=False)


@contextmanager
def _told(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield what says which check is made: a line that changes on a terminal, elsewhere a line for each group."""
    groups: Counter[str] = Counter()
    with console.status("starting") as status:

        def tell(name: str) -> None:
            group = name.rpartition(": ")[0] or name
            groups[group] += 1
            status.update(f"checking {escape(name)}")
            if groups[group] == 1:
                console.print(f"  checking {escape(group)} ...", highlight=False)

        yield tell


def _take_one_thread() -> None:
    """What is checked is small: more threads only wait for one another."""
    import torch

    torch.set_num_threads(1)


def _findings_of(
    spec: SubmissionSpec, points: Sequence[HyperparameterPoint | None], attention: Attention
) -> list[Finding]:
    from perfbench.api.contracts.conduct import check_conduct
    from perfbench.api.contracts.submission import check_hyperparameters, check_points, check_source

    _take_one_thread()
    findings = []
    is_adapted = spec.form == "algoperf"
    if attention.takes("the code names no workload"):
        exempt = frozenset({"get_batch_size"}) if is_adapted else frozenset[str]()
        findings += check_source(submission_folder(spec), workload_names=choices("workload"), exempt_functions=exempt)
    chosen = {f"point {number}": points[number - 1] for number in sorted({1, len(points)})}
    builders = {label: submission_builder(spec, point) for label, point in chosen.items()}
    findings += check_points(builders, attention=attention)
    for label, point in chosen.items():
        mine = attention.under(label)
        conduct = check_conduct(
            builders[label],
            state_bytes_per_parameter=spec.state_bytes_per_parameter,
            waits_per_step=spec.waits_per_step,
            attention=mine,
        )
        conduct = [_only_reported(finding) for finding in conduct] if is_adapted else conduct
        findings += [dataclasses.replace(finding, name=f"{label}: {finding.name}") for finding in conduct]
        if point is not None and not is_adapted and mine.takes("a point is accepted, and what is none refused by name"):
            read = check_hyperparameters(hyperparameters_type(spec), point)
            findings += [dataclasses.replace(finding, name=f"{label}: {finding.name}") for finding in read]
    return findings


def _only_reported(finding: Finding) -> Finding:
    """Return a finding of what a YAML would declare as one that judges nothing: AlgoPerf has no such declarations."""
    is_declared = finding.name.endswith(("its memory", "its declared memory", "no more than declared"))
    return dataclasses.replace(finding, passed=True) if is_declared else finding
