"""``perfbench wandb-dashboard``: a board as a report on Weights & Biases, or as a page here."""

from __future__ import annotations

import argparse
from pathlib import Path

from perfbench.cli.wandb_arguments import add_wandb_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_wandb_arguments(parser)
    parser.add_argument("--local", action="store_true", help="write the page only")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the page goes (default: PATH/dashboard)")


def run(arguments: argparse.Namespace) -> int:
    """Publish the report where W&B can be reached and is logged in to; write the page otherwise."""
    from rich.console import Console

    from perfbench.cli.boards import input_paths, print_complaints, read_boards
    from perfbench.cli.report import write_report
    from perfbench.errors import ExitCode, LaunchError
    from perfbench.scoring.accounting import trials_of
    from perfbench.scoring.uncertainty import bootstrap
    from perfbench.spec.run import WandbTracking
    from perfbench.tracking.access import check_tracking
    from perfbench.tracking.mirror import reason_of

    console = Console(soft_wrap=True)
    facts = {"kind": "wandb", "project": arguments.project, "entity": arguments.entity}
    tracking = WandbTracking.from_mapping(facts, where="wandb-dashboard")
    paths = input_paths(arguments.paths)
    read = read_boards(paths, benchmark=None, as_published=False)
    reasons: list[str] = ["--local"] if arguments.local else []
    if not arguments.local:
        try:
            check_tracking(tracking, reasons.append)
        except LaunchError as problem:
            reasons.append(str(problem).splitlines()[0])
    if reasons:
        print_complaints(console, read.complaints)
        folder = arguments.out or (paths[0] if paths[0].is_dir() else paths[0].parent) / "dashboard"
        console.print(f"no report on W&B ({reasons[0]}); the same as a page:", markup=False)
        write_report(console, read, folder, with_pictures=False)
        return int(ExitCode.DONE)
    from perfbench.tracking.wandb_report import publish

    for board, logs in zip(read.boards, read.logs, strict=True):
        try:
            made = publish(board, bootstrap(board), trials_of(logs, read.recorded), tracking)
        except Exception as problem:  # noqa: BLE001 - W&B raises many classes
            hint = "try again later, or --local"
            raise LaunchError(f"W&B did not take the report: {reason_of(problem)}", hint=hint) from None
        console.print(f"{'created' if made.is_new else 'updated'} {made.title!r}: {made.address}", markup=False)
    return int(ExitCode.DONE)
