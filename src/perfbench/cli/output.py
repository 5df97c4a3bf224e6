"""What ``run``, ``sweep`` and their like share: how they show what they do, and what they do about changed code."""

from __future__ import annotations

import argparse
import os

from rich.console import Console

from perfbench.inherited import withheld
from perfbench.launch.changed_code import OnChangedCode
from perfbench.spec.run import Cluster, DebugCluster
from perfbench.tracking.views import DetailedView, JsonView, LineView, View


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Declare the choice; without one, progress is shown for people."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--quiet", action="store_true", help="only warnings, and one line per trial at its end")
    choice.add_argument("--json", action="store_true", help="one JSON object per line for everything that happens")


def add_changed_code_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be done with trials that were begun with other code; without a choice they are refused."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--fresh", action="store_true", help="set what is there of these trials aside, and start them anew"
    )
    choice.add_argument(
        "--continue-with-changed-code",
        action="store_true",
        help="go on with interrupted trials although their code was changed: on record, and never scored",
    )


def on_changed_code(arguments: argparse.Namespace) -> OnChangedCode:
    """Return what was chosen."""
    if arguments.fresh:
        return OnChangedCode.START_ANEW
    return OnChangedCode.CONTINUE if arguments.continue_with_changed_code else OnChangedCode.REFUSE


def tell_withheld(cluster: Cluster, view: View) -> None:
    """Warn of switches in the environment that ranks do not get: a person may have set them on purpose."""
    if not isinstance(cluster, DebugCluster) and (names := withheld(os.environ, cluster.inherit)):
        view.warn(f"ranks do not inherit {', '.join(names)}; cluster.inherit=[NAME] hands one on, and it is on record")


def console_and_view(arguments: argparse.Namespace, *, lines: bool) -> tuple[Console, View]:
    """Return the console for everything besides trials (silent unless it is for people), and the view of trials.

    Args:
        arguments: With the choice.
        lines: Whether a trial gets one line rather than all details.
    """
    console = Console(soft_wrap=True)
    silent = Console(quiet=True)
    if arguments.json:
        return silent, JsonView(lambda line: print(line, flush=True))  # noqa: T201 - the command line's own output
    if arguments.quiet:
        return silent, LineView(console, is_quiet=True)
    return console, LineView(console) if lines else DetailedView(console)
