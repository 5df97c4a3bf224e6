"""The command line: one verb per module, loaded only when it is used, so that ``--help`` is immediate."""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType

from perfbench.errors import ExitCode, LaunchError, PerfbenchError, nearest_name_hint
from perfbench.version import __version__

VERBS = {
    "run": "run one trial on this machine, or continue it",
    "sweep": "run the trials of studies or suites, here one after another or on Slurm as job arrays",
    "tune": "search for good hyperparameters on one workload, by Optuna, trial after trial",
    "status": "show what every trial of a run folder is doing",
    "watch": "draw the curves of trials that run, live, from another terminal",
    "cancel": "take a run folder's jobs off the cluster",
    "resume": "submit again what a run folder holds unfinished",
    "table": "list trials with their hyperparameters and what came of them, the best first",
    "compare": "show what differs between trials, and what came of it: curves, times, speed, memory",
    "score": "turn trial folders into a leaderboard",
    "report": "write a leaderboard as one self-contained page, with its figures",
    "subsets": "ask which workloads, studies and trials tell a board's ranking, at what cost, and validate the answer",
    "early-stopping": "ask how early trials on record could have been told to miss their target, and how often wrongly",
    "verify": "look for what makes trial folders incomparable or incomplete",
    "replay": "run a finished trial again and compare: evaluations, traced states, times",
    "sync": "send trial folders to Weights & Biases, as often as you like: nothing is sent twice",
    "wandb-dashboard": "make a Weights & Biases report of trial folders, or the same as a local page",
    "export": "write trial folders in the form of the AlgoPerf logs",
    "show": "print the composed, typed configuration; `show workloads`, `show submissions`",
    "show-batch": "draw a batch as the model sees it, with its predictions",
    "check": "check a workload or submission against its contract",
    "new-submission": "write the folder and YAML of a new training algorithm",
    "data": "prepare or verify data sets",
    "profile": "time a few steps part by part, and write a trace of them for Perfetto",
    "bench": "measure a whole training step at any scale, on invented batches or real ones",
    "completion": "print what has a shell complete verbs, keys and names",
    "doctor": "look at this machine: versions, devices, process group, disk, clock",
}

_OBJECTS_BETWEEN_COLLECTIONS = 200_000
"""A verb reads much and drops little: looking through all of it every 700 objects costs a third of scoring."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 done, 1 the run failed, 2 asked for the impossible."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        _answer_shell()
    if arguments and arguments[0] in VERBS:
        return _run_verb(arguments[0], arguments[1:])
    parser = front_door()
    if arguments and not arguments[0].startswith("-"):
        parser.error(f"no such verb: {nearest_name_hint(arguments[0], VERBS, kind='verbs')}")
    parser.parse_args(arguments)
    return int(ExitCode.IMPOSSIBLE_REQUEST)


def front_door(detailed: Collection[str] = ()) -> argparse.ArgumentParser:
    """Return a parser that knows all verbs, and of some also their arguments."""
    parser = argparse.ArgumentParser(
        prog="perfbench",
        description="Measure how fast a training algorithm trains.",
        epilog="perfbench VERB --help says more about a verb.",
    )
    parser.add_argument("--version", action="version", version=f"perfbench {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, text in VERBS.items():
        one = verbs.add_parser(verb, help=text)
        if verb in detailed:
            verb_module(verb).add_arguments(one)
    return parser


def _answer_shell() -> None:
    """Answer a shell that asks what a command line can become, and end."""
    words = os.environ.get("COMP_LINE", "").split()
    completion = importlib.import_module("perfbench.cli.completion")
    completion.answer(front_door(words[1:2]))


def verb_module(verb: str) -> ModuleType:
    """Return the module of a verb."""
    return importlib.import_module(f"perfbench.cli.{verb.replace('-', '_')}")


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return what reads a verb's arguments."""
    parser = argparse.ArgumentParser(prog=f"perfbench {verb}", description=VERBS[verb].capitalize() + ".")
    verb_module(verb).add_arguments(parser)
    return parser


def _file_failed(verb: str, problem: OSError) -> int:
    told = PerfbenchError.of_file(problem)
    _complain(verb, str(told))
    return int(ExitCode.RUN_FAILED)


def _exit_code(verb: str, arguments: Sequence[str]) -> int:
    try:
        parsed = parser_of(verb).parse_intermixed_args(arguments)  # flags and keys in any order
        return int(verb_module(verb).run(parsed))
    except ModuleNotFoundError as problem:
        package = (problem.name or "").partition(".")[0]
        if package in ("", "perfbench"):
            raise
        raise LaunchError(
            f"needs the package {package!r}, which is not installed", hint="pip install 'perfbench[all]'"
        ) from None


def _run_verb(verb: str, arguments: Sequence[str]) -> int:
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    try:
        return _exit_code(verb, arguments)
    except PerfbenchError as problem:
        _complain(verb, str(problem))
        return int(problem.exit_code)
    except BrokenPipeError:  # whoever read the output has enough: `perfbench status | head`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - Python flushes it at its end
        return int(ExitCode.RUN_FAILED)
    except OSError as problem:  # a file that no verb expected to be so: never a traceback
        return _file_failed(verb, problem)
    except RuntimeError as problem:
        if not str(problem).startswith("Symlink loop"):  # pathlib's words before Python 3.13
            raise
        return _file_failed(verb, OSError(errno.ELOOP, str(problem)))
    except KeyboardInterrupt:
        _complain(verb, "", how="interrupted")
        return int(ExitCode.RUN_FAILED)


def _complain(verb: str, text: str, *, how: str = "error: ") -> None:
    """Print one error; commands in it are written so that they can be pasted where this one was."""
    if Path(sys.argv[0]).name == "perfbench" and shutil.which("perfbench") is None:
        text = text.replace("`perfbench ", f"`{sys.argv[0]} ")
    print(f"perfbench {verb}: {how}{text}", file=sys.stderr)  # noqa: T201 - the command line's own output
