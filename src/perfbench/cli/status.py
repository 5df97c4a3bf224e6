"""``perfbench status``: what every trial of a run folder is doing."""

from __future__ import annotations

import argparse
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from perfbench.cli.listing import Listing
    from perfbench.launch.states import TrialStatus

_MAX_ROWS = 60
_LONGEST_REASON = 160
_COLOURS = {
    "reached": "green",
    "running": "cyan",
    "crashed": "red",
    "damaged": "red",
    "diverged": "red",
    "interrupted": "yellow",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("runs_root", nargs="?", type=Path, default=Path("runs/mini"), help="default: runs/mini")
    parser.add_argument("--all", action="store_true", help=f"a row per trial, even for more than {_MAX_ROWS}")
    parser.add_argument("--watch", action="store_true", help="again every few seconds, until nothing is under way")
    parser.add_argument("--period-s", type=float, default=10.0, help="of --watch")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, once or until all is done."""
    from rich.console import Console
    from rich.markup import escape

    from perfbench.errors import ExitCode

    console = Console(soft_wrap=False)
    while True:
        found, unknown = read_statuses(arguments.runs_root.resolve())
        if arguments.watch and console.is_terminal:
            console.clear()
        _print(found, console, show_all=arguments.all)
        if unknown:
            what = "what it runs or has queued stands above as interrupted, planned or crashed"
            console.print(f"[yellow]warning[/] Slurm cannot be asked ({escape(unknown)}): {what}", soft_wrap=True)
        if not (arguments.watch and (unknown or any(status.state.is_under_way for status in found))):
            return int(ExitCode.DONE)
        time.sleep(arguments.period_s)


def read_statuses(runs_root: Path) -> tuple[list[TrialStatus], str]:
    """Return the status of every trial under a run folder, and why the queue could not be asked; empty if it could.

    Raises:
        ResultsError: If there is no trial.
    """
    from perfbench.errors import ResultsError
    from perfbench.launch.slurm.manifest import books_folder
    from perfbench.launch.slurm.queue import jobs_by_trial, queue_if_known
    from perfbench.launch.states import statuses

    queue, unknown = queue_if_known() if books_folder(runs_root).exists() else ([], "")
    found = statuses(runs_root, jobs_by_trial(runs_root, queue))
    if not found:
        raise ResultsError("no trial folder found", where=str(runs_root), hint="`perfbench sweep` makes some")
    return found, unknown


def _print(found: Sequence[TrialStatus], console: Console, *, show_all: bool) -> None:
    from perfbench.cli.listing import print_listing

    if show_all or len(found) <= _MAX_ROWS:
        print_listing(console, _trial_table(found))
    else:
        print_listing(console, _group_table(found))
        if failed := [status for status in found if status.reason and status.state.value in ("crashed", "diverged")]:
            print_listing(console, _trial_table(failed[:_MAX_ROWS]))
    counts = Counter(status.state.value.replace("_", " ") for status in found)
    console.print(
        f"{len(found):,} trial{'s' * (len(found) != 1)}: "
        + ", ".join(f"{n:,} {state}" for state, n in sorted(counts.items()))
    )


def _trial_table(found: Sequence[TrialStatus]) -> Listing:
    from rich.markup import escape

    from perfbench.cli.listing import Listing

    header = ["submission", "workload", "study", "trial", "state", "step", "metric", "time used", "job", "reason"]
    table = Listing(header, right=frozenset({"step", "metric", "time used"}))
    for status in found:
        key, state = status.key, status.state.value
        colour = _COLOURS.get(state, "default")
        phase = f" ({status.phase})" if status.phase else ""
        table.add(
            key.submission,
            key.workload,
            "" if key.explored else str(key.study),
            escape(key.explored) or str(key.trial),
            f"[{colour}]{state.replace('_', ' ')}[/]{phase}",
            "" if status.step is None else f"{status.step:,}",
            "" if status.metric is None else f"{status.metric:.5f}",
            "" if status.time_s is None else f"{status.time_s:,.1f} s",
            f"{status.job_id} {status.nodes}".strip(),
            escape(textwrap.shorten(status.reason, _LONGEST_REASON, placeholder=" ...")),
        )
    return table


def _group_table(found: Sequence[TrialStatus]) -> Listing:
    from perfbench.cli.listing import Listing

    states = list(dict.fromkeys(status.state.value for status in sorted(found, key=lambda one: one.state.value)))
    table = Listing(["submission", "workload", *(state.replace("_", " ") for state in states)])
    groups: dict[tuple[str, str], Counter[str]] = {}
    for status in found:
        groups.setdefault((status.key.submission, status.key.workload), Counter())[status.state.value] += 1
    for (submission, workload), counts in groups.items():
        table.add(submission, workload, *(str(counts[state] or "") for state in states))
    return table
