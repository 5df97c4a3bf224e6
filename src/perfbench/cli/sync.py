"""``perfbench sync``: trial folders to Weights & Biases, later and as often as one likes."""

from __future__ import annotations

import argparse
from pathlib import Path

from perfbench.cli.wandb_arguments import add_wandb_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_wandb_arguments(parser)
    parser.add_argument("--artifacts", action="store_true", help="upload the records of finished trials too")
    parser.add_argument("--offline", action="store_true", help="write W&B's files into the trial folders instead")


def run(arguments: argparse.Namespace) -> int:
    """Send what W&B does not hold; trials that are being mirrored now are left to their mirror."""
    from rich.console import Console

    from perfbench.errors import ExitCode, LaunchError, ResultsError
    from perfbench.results.reader import trial_folders
    from perfbench.results.store import TrialFolder
    from perfbench.results.trials import Complaint
    from perfbench.spec.run import WandbTracking
    from perfbench.tracking.access import check_tracking
    from perfbench.tracking.sync import sync_trial

    console = Console(soft_wrap=True)
    kind = "wandb_offline" if arguments.offline else "wandb"
    tracking = WandbTracking.from_mapping(
        {"kind": kind, **{name: getattr(arguments, name) for name in ("project", "entity", "artifacts")}},
        where="sync",
    )
    complaints: list[Complaint] = []
    paths = arguments.paths or [Path("runs")]
    folders = list(trial_folders(paths, complaints))
    if not folders:
        raise ResultsError("no trial folder found", where=", ".join(map(str, paths)), hint="`perfbench run` makes one")
    unreachable: list[str] = []
    check_tracking(tracking, unreachable.append)
    if unreachable:  # every folder would wait for it
        raise LaunchError(unreachable[0], where="sync", hint="the records are whole; sync again later, or --offline")
    num_left_out = 0
    for path in folders:
        try:
            num_rows = sync_trial(TrialFolder(path), tracking)
        except (LaunchError, ResultsError) as problem:
            num_left_out += 1
            console.print(f"[yellow]left out[/]: {problem}")
            continue
        console.print(f"{path}: {num_rows:,} rows {'written' if arguments.offline else 'sent'}", highlight=False)
    console.print(f"{len(folders) - num_left_out} of {len(folders)} trials are in {tracking.project}", highlight=False)
    return int(ExitCode.RUN_FAILED if num_left_out else ExitCode.DONE)
