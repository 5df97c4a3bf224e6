"""Finds the logs of an AlgoPerf tree.

``<submission>/study_<i>/<workload>_<framework>/trial_<j>/eval_measurements.csv``
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from perfbench.errors import ResultsError, printable
from perfbench.results.trials import Complaint
from perfbench.results.walk import walk

LOG_NAME = "eval_measurements.csv"
_DEPTH = 4
"""Submission, study, workload, trial."""
_STUDY = re.compile(r"study_(\d{1,9})")
_TRIAL = re.compile(r"trial_(\d{1,9})")


class FoundLog(NamedTuple):
    """A log in its place; nothing of it was read."""

    path: Path
    submission: str
    study: int
    workload_folder: str
    """The workload's name with the framework's."""
    trial: int


@dataclass(slots=True)
class LogTree:
    """What lies under some paths, in order of name."""

    paths: tuple[Path, ...]
    logs: list[FoundLog] = field(default_factory=list)
    num_misplaced: int = 0
    has_own_trials: bool = False
    """Whether the walk met a trial folder of ours, and ended there."""
    complaints: list[Complaint] = field(default_factory=list)

    def is_empty(self) -> bool:
        """Tell whether there is no log, not even one in the wrong place."""
        return not self.logs and not self.num_misplaced


def find_logs(paths: Sequence[Path], *, unless_ours: bool = False) -> LogTree:
    """Find every log under the paths; what is in the wrong place becomes a complaint.

    Args:
        paths: Where to look.
        unless_ours: End at the first trial folder of ours: the tree is none of published logs then.

    Raises:
        ResultsError: If one of the paths does not exist.
    """
    tree = LogTree(tuple(paths))
    for folder, folders, files in walk(paths, tree.complaints):
        if unless_ours and ("run.json" in files or "run.json" in folders):
            tree.has_own_trials = True
            return tree
        trial = _TRIAL.fullmatch(folder.name)
        if LOG_NAME not in files:
            if trial and not folders:
                tree.complaints.append(Complaint(folder, f"a trial without {LOG_NAME}"))
            continue
        folders.clear()
        path = folder / LOG_NAME
        parts = folder.parts
        if len(parts) < _DEPTH or ".." in parts:  # `perfbench score trial_1` must know its study too
            parts = ("", "", "", *folder.absolute().parts)
        submission, study_name, workload = parts[-_DEPTH:-1]
        study = _STUDY.fullmatch(study_name)
        if trial is None or study is None:
            tree.num_misplaced += 1
            what = "left out: not in <submission>/study_<i>/<workload>/trial_<j>"
            tree.complaints.append(Complaint(path, what))
            continue
        tree.logs.append(FoundLog(path, printable(submission), int(study[1]), printable(workload), int(trial[1])))
    return tree


def no_logs(paths: Sequence[Path], what: str) -> ResultsError:
    """Return the error that says what a tree without logs should have looked like."""
    return ResultsError(
        what,
        where=", ".join(map(printable, paths)),
        hint=f"expected <submission>/study_<i>/<workload>/trial_<j>/{LOG_NAME}",
    )


def without_suffix(workload_folder: str, suffixes: Sequence[str]) -> str:
    """Return the workload's name without what the folder's name adds to it.

    >>> without_suffix("task_jax", ["_jax", "_pytorch"])
    'task'
    """
    for suffix in suffixes:
        if workload_folder.endswith(suffix):
            return workload_folder.removesuffix(suffix)
    return workload_folder
