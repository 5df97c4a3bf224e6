"""``perfbench data prepare|verify NAME``: data sets on this disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console

from perfbench.cli.progress import data_progress
from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest, data_folder
from perfbench.errors import ExitCode
from perfbench.launch.preflight import prepare_command, prepare_data
from perfbench.registry import preparer_of
from perfbench.spec.workload import ScaleName, WorkloadSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("action", choices=["prepare", "verify"])
    parser.add_argument("workload", help="workload or family, e.g. criteo")
    parser.add_argument("--scale", default="mini", choices=[scale.value for scale in ScaleName])
    parser.add_argument("--dataset", help="one of the workload's data sets at this scale; its default otherwise")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="DIR",
        help="folder of the public files (full scale), or where a Debian package is unpacked",
    )
    parser.add_argument(
        "--trust-archives", action="store_true", help="go without the md5 sums of large archives (ImageNet: minutes)"
    )
    parser.add_argument(
        "--vocabulary", type=Path, metavar="DIR", help="folder of a given vocabulary's files; the source otherwise"
    )
    parser.add_argument("--data-root", type=Path, default=Path("data"), metavar="DIR")


def run(arguments: argparse.Namespace) -> int:
    """Prepare a data set (an interrupted call is continued), or check every byte of a prepared one."""
    console = Console(soft_wrap=True)
    workload = compose_workload(arguments.workload, scale=arguments.scale, dataset=arguments.dataset)
    folder = data_folder(arguments.data_root.resolve(), workload)
    if arguments.action == "prepare":
        options: dict[str, JsonValue] = {"trust_archives": arguments.trust_archives}
        if arguments.vocabulary is not None:
            options["vocabulary"] = str(arguments.vocabulary)
        _prepare(workload, folder, arguments.source, options, console)
    command = prepare_command(workload)
    manifest = preparer_of(workload.family).verify(workload, folder, prepare_command=command)
    with data_progress(console) as progress:
        manifest.verify_digests(folder, prepare_command=command, progress=progress)
    counts = ", ".join(f"{split} {count:,}" for split, count in manifest.counts.items())
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    console.print(
        f"{workload.family}/{workload.dataset}: {counts}; {len(manifest.files)} files, {size_bytes / 1e6:,.1f} MB"
    )
    console.print(f"verified: {folder}")
    return int(ExitCode.DONE)


def _prepare(
    workload: WorkloadSpec, folder: Path, source: Path | None, options: dict[str, JsonValue], console: Console
) -> None:
    if (folder / "manifest.json").exists():
        console.print(f"already prepared: {folder} (delete it to prepare again)")
        return
    with data_progress(console) as progress:
        request = PrepareRequest(
            workload=workload, destination=folder, source=source, progress=progress, options=options
        )
        needed_bytes = preparer_of(workload.family).required_bytes(request)
        console.print(
            f"preparing {workload.family}/{workload.dataset}: at most {needed_bytes / 1e9:.2f} GB in {folder}"
        )
        prepare_data(request)
