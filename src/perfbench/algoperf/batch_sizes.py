"""Asks a submission of theirs for its batch sizes: a process of its own, as only its code knows them.

``python -m perfbench.algoperf.batch_sizes FOLDER ANSWER``; standard input has an object: our name of a workload, and
their names of it and of its family. The answer is a file: ``sizes``, or ``what``, ``where`` and ``hint`` of an error.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perfbench.algoperf.folder import JAX, read_folder
from perfbench.algoperf.imports import OFFERED, PRESENTED
from perfbench.algoperf.loading import load
from perfbench.errors import PerfbenchError

_UNKNOWN = (ValueError, LookupError, NotImplementedError)
"""What files raise for a workload that they do not know; the first is AlgoPerf's own, the second a dictionary's."""


def main() -> None:
    """Answer."""
    path, answer = Path(sys.argv[1]), Path(sys.argv[2])
    text = json.dumps(answered(path, json.load(sys.stdin)))
    aside = answer.with_suffix(".part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, answer)  # noqa: PTH105 - atomic: a half answer is none


def answered(path: Path, workloads: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return what a folder's function says of each workload that it knows, or what went wrong."""
    doing = "importing it"
    try:
        ask = load(read_folder(path)).get_batch_size
        doing = "asking for its batch sizes"
        return {"sizes": {name: size for name, theirs in workloads.items() if (size := _size(ask, theirs)) is not None}}
    except PerfbenchError as problem:
        return {"what": problem.what, "where": problem.where, "hint": problem.hint}
    except ImportError as problem:
        what, hint = _not_imported(problem)
        return {"what": what, "where": _line_of(problem, path), "hint": hint}
    except Exception as problem:  # noqa: BLE001 - a stranger's code: whatever it raises is told
        what = f"{doing} raised {type(problem).__name__}: {problem}"
        return {"what": what, "where": _line_of(problem, path), "hint": "its own code raised it"}


def _size(ask: Callable[[str], Any], their_names: tuple[str, str]) -> int | None:
    """Return a batch size for a workload, or for its family; ``None`` if the function knows neither."""
    for name in dict.fromkeys(their_names):
        try:
            size = ask(name)
        except _UNKNOWN:
            continue
        if size is not None:  # what a chain of conditions without an end returns
            return int(size)
    return None


def _not_imported(problem: ImportError) -> tuple[str, str]:
    """Return what is missing, and what to do."""
    package = str(problem.name).partition(".")[0]
    if package in PRESENTED:
        asked = re.match(r"cannot import name '(\w+)'", str(problem))
        full = f"{problem.name}.{asked[1]}" if asked else str(problem.name)
        return (
            f"imports {full}: of that package there are {' and '.join(OFFERED)} here",
            "functions are given the workload, and get_batch_size its name: nothing else of AlgoPerf is needed",
        )
    if not isinstance(problem, ModuleNotFoundError):
        return f"importing it raised ImportError: {problem}", "its own code raised it"
    what = f"needs the package {package!r}, which is not installed"
    if package in JAX:
        hint = (
            f"{package} is of JAX: no step of it runs here; a PyTorch file with a schedule from it needs it installed"
        )
        return what, hint
    return what, f"pip install {package}, if it runs on PyTorch"


def _line_of(problem: BaseException, folder: Path) -> str:
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename.startswith(str(folder))]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(folder)


if __name__ == "__main__":
    main()
