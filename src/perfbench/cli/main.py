"""The command line: one verb per module, loaded only when it is used, so that ``--help`` is immediate."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from perfbench import __version__
from perfbench.errors import ExitCode, PerfbenchError, nearest_name_hint

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
    "doctor": "look at this machine: versions, devices, process group, disk, clock",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 done, 1 the run failed, 2 asked for the impossible."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in VERBS:
        return _run_verb(arguments[0], arguments[1:])
    parser = argparse.ArgumentParser(
        prog="perfbench",
        description="Measure how fast a training algorithm trains.",
        epilog="perfbench VERB --help says more about a verb.",
    )
    parser.add_argument("--version", action="version", version=f"perfbench {__version__}")
    if arguments and not arguments[0].startswith("-"):
        parser.error(f"no such verb: {nearest_name_hint(arguments[0], VERBS, kind='verbs')}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, text in VERBS.items():
        verbs.add_parser(verb, help=text)
    parser.parse_args(arguments)
    return int(ExitCode.IMPOSSIBLE_REQUEST)


def _file_failed(verb: str, problem: OSError) -> int:
    told = PerfbenchError.of_file(problem)
    _complain(verb, str(told))
    return int(ExitCode.RUN_FAILED)


def _run_verb(verb: str, arguments: Sequence[str]) -> int:
    module = importlib.import_module(f"perfbench.cli.{verb.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"perfbench {verb}", description=VERBS[verb].capitalize() + ".")
    module.add_arguments(parser)
    parsed = parser.parse_intermixed_args(arguments)  # flags and keys in any order
    try:
        return int(module.run(parsed))
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
