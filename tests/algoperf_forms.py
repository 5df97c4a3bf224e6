"""Submissions in AlgoPerf's form, written for the tests: copied to where a test wants them."""

from __future__ import annotations

import shutil
from pathlib import Path

from perfbench.algoperf.facts import facts_of
from perfbench.spec.submission import SubmissionSpec

FOLDERS = Path(__file__).parent / "algoperf_folders"
NAMES = sorted(path.name for path in FOLDERS.iterdir() if path.is_dir())


def copied(name: str, tmp_path: Path) -> Path:
    """Copy a folder under its own name and return the copy."""
    target = tmp_path / name
    shutil.copytree(FOLDERS / name, target)
    for path in target.rglob("*.txt"):
        path.rename(path.with_suffix(""))
    return target


def spec_of(name: str, tmp_path: Path) -> SubmissionSpec:
    """Return a copied folder's facts; it is not asked for its batch sizes, which takes a process."""
    return SubmissionSpec.from_mapping(facts_of(copied(name, tmp_path), taken_names=(), workloads={}))
