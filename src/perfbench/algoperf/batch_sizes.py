"""Asks a submission of theirs for its batch sizes: a process of its own, as only its code knows them.

``python -m perfbench.algoperf.batch_sizes FOLDER ANSWER``; standard input has an object: our name of a workload, and
their names of it and of its family. The answer is a file: ``sizes``, or ``what``, ``where`` and ``hint`` of an error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from perfbench.algoperf.folder import Folder, read_folder
from perfbench.algoperf.loading import load
from perfbench.errors import PerfbenchError


def main() -> None:
    """Answer."""
    path, answer = Path(sys.argv[1]), Path(sys.argv[2])
    text = json.dumps(answered(path, json.load(sys.stdin)))
    aside = answer.with_suffix(".part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, answer)  # noqa: PTH105 - atomic: a half answer is none


def answered(path: Path, workloads: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return what a folder's function says of each workload, or what went wrong."""
    folder: Folder | None = None
    try:
        folder = read_folder(path)
        ask = load(folder).get_batch_size
        sizes: dict[str, int] = {}
        for name, theirs in workloads.items():
            for their_name in dict.fromkeys(theirs):
                try:
                    sizes[name] = int(ask(their_name))
                    break
                except ValueError:  # their convention for a workload that is not known
                    continue
    except PerfbenchError as problem:
        return {"what": problem.what, "where": problem.where, "hint": problem.hint}
    except ModuleNotFoundError as problem:
        name = str(problem.name).partition(".")[0]
        what = f"needs the package {name!r}, which is not installed"
        return {"what": what, "where": _line_of(problem, path), "hint": f"pip install {name}, if it runs on PyTorch"}
    except Exception as problem:  # noqa: BLE001 - a stranger's code: whatever it raises is told
        what = f"asking for its batch sizes raised {type(problem).__name__}: {problem}"
        return {"what": what, "where": _line_of(problem, path), "hint": "its own code raised it"}
    return {"sizes": sizes}


def _line_of(problem: BaseException, folder: Path) -> str:
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename.startswith(str(folder))]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(folder)


if __name__ == "__main__":
    main()
