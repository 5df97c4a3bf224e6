"""The code that jobs run: copied when they are submitted, so that later edits do not reach them.

A snapshot is named after its content, so sweeps of the same code share one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from perfbench.engine.referee.checkout import commit_of
from perfbench.errors import LaunchError
from perfbench.launch.slurm.manifest import books_folder
from perfbench.places import CARRIED, COMMIT, own_site_scripts, package_folder
from perfbench.registry import repository_root
from perfbench.results.files import sync_folder, write_text_atomically

_PARTS = ("submissions", "configs", "slurm")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", CARRIED, ".*")
_OUTSIDE = "outside"


def take_snapshot(runs_root: Path, *, submission_folder: str | None) -> Path:
    """Copy the code, unless an equal copy is there; return the copy's folder.

    Args:
        runs_root: Shared by all nodes.
        submission_folder: A submission's code from outside of the repository, or ``None``.

    Raises:
        LaunchError: If it cannot be written.
    """
    sources = _sources(submission_folder)
    target = snapshot_folder(runs_root, submission_folder=submission_folder)
    if target.exists():
        return target
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        for name, source in sources.items():
            shutil.copytree(source, aside / name, ignore=_LEFT_OUT)
        for name, script in own_site_scripts().items():  # in the place of ours, where jobs and later jobs look
            shutil.copyfile(script, site_file(aside, name))
        write_text_atomically(aside / COMMIT, _commit_text(repository_root()))
        aside.rename(target)
        sync_folder(target.parent)
    except OSError as problem:
        shutil.rmtree(aside, ignore_errors=True)
        if target.exists():  # another sweep was faster
            return target
        raise LaunchError(
            f"the run folder cannot be written: {problem.strerror or problem}",
            where=str(problem.filename or target),
            hint="the run folder must be on a disk that all nodes share; choose another with runs_root=...",
        ) from None
    return target


def snapshot_folder(runs_root: Path, *, submission_folder: str | None) -> Path:
    """Return where the snapshot of the present code is, or would be."""
    digest = hashlib.blake2b(digest_size=8)
    for name, source in _sources(submission_folder).items():
        for path in _files(source):
            digest.update(f"{name}/{path.relative_to(source)}".encode() + b"\0" + path.read_bytes() + b"\0")
    for name, script in sorted(own_site_scripts().items()):
        digest.update(f"{site_file(Path(), name)}".encode() + b"\0" + script.read_bytes() + b"\0")
    return books_folder(runs_root) / "snapshots" / digest.hexdigest()


def site_file(root: Path, site: str) -> Path:
    """Return the set-up script of a site in a checkout or snapshot."""
    return root / "slurm" / "sites" / f"{site}.sh"


def outside_submission(snapshot: Path, submission_folder: str | None) -> str | None:
    """Return where a snapshot has the code of a submission from outside of the repository."""
    return None if submission_folder is None else str(snapshot / _OUTSIDE / Path(submission_folder).name)


def _sources(submission_folder: str | None) -> dict[str, Path]:
    """Return what is copied, by its name in the snapshot."""
    sources = {name: repository_root() / name for name in _PARTS if (repository_root() / name).is_dir()}
    sources = {"src/perfbench": package_folder(), **sources}
    if submission_folder is not None:
        folder = Path(submission_folder).resolve()
        sources[f"{_OUTSIDE}/{folder.name}"] = folder
    return sources


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_left_out = any(part.startswith(".") or part in ("__pycache__", CARRIED) for part in parts)
        if path.is_file() and not is_left_out and path.suffix != ".pyc":
            yield path


def _commit_text(root: Path) -> str:
    """Return the commit of the code and whether files differ from it; empty where nobody knows."""
    if (root / COMMIT).exists():  # a copy: installed, or itself a snapshot
        return (root / COMMIT).read_text()
    commit, is_clean = commit_of(root)
    return "" if commit is None else f"{commit} {'clean' if is_clean else 'changed'}\n"
