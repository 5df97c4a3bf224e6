"""Checkpoints: every rank's state, written aside, checked by digest, made visible in one rename.

Layout: ``checkpoints/step_<n>/rank_<r>.pt`` and ``complete.json`` (digests). A folder under its final name is
complete; what a crash leaves has the suffix ``.partial`` and is removed by the next save.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perfbench.api.submission import StateDict
from perfbench.api.workload import Shard
from perfbench.engine.team import Team
from perfbench.errors import ResultsError
from perfbench.results.files import atomic_file, digest_of_file, sync_folder, write_text_atomically
from perfbench.spec.base import Spec

_NAME = re.compile(r"step_(\d+)")
_NUM_KEPT = 2
"""The newest may turn out unreadable; the one before it gives the same trajectory."""


class CheckpointIndex(Spec):
    """What a complete checkpoint holds."""

    schema_version: int = 1
    trial_identity: str
    step: int
    num_ranks: int
    digests: dict[str, str]
    """By file name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedState:
    """A rank's state as it was saved."""

    step: int
    own: StateDict
    shared: StateDict


class Checkpoints:
    """The checkpoints of one trial.

    Args:
        folder: ``checkpoints/`` of the trial.
        trial_identity: Checkpoints of another configuration are refused.
        team: All ranks.
    """

    def __init__(self, folder: Path, *, trial_identity: str, team: Team) -> None:
        self._folder = folder
        self._identity = trial_identity
        self._team = team

    def save(self, step: int, *, own: StateDict, shared: StateDict) -> None:
        """Write every rank's state; when this returns, the checkpoint survives any crash.

        Args:
            step: Names the checkpoint.
            own: This rank's part.
            shared: What is equal on all ranks: only rank 0's is written.
        """
        final = self._folder / f"step_{step:09d}"
        partial = final.with_suffix(".partial")
        shard = self._team.shard
        if shard.rank == 0:
            for leftover in self._folder.glob("*.partial"):
                shutil.rmtree(leftover)
            partial.mkdir(parents=True)
        self._team.barrier()
        with atomic_file(partial / _file_name(shard)) as file:
            torch.save({"own": plain(own), "shared": plain(shared) if shard.rank == 0 else None}, file)
        self._team.barrier()
        if shard.rank == 0:
            self._complete(partial, final, step)
        self._team.barrier()

    def load_latest(self, warn: Callable[[str], None]) -> SavedState | None:
        """Return this rank's state in the newest readable checkpoint, ``None`` if there is none.

        Args:
            warn: Told about a damaged checkpoint that is passed over for an older one.

        Raises:
            ResultsError: If a checkpoint belongs to another configuration or number of ranks.
        """
        name = self._team.share(_newest_readable(self._folder, warn) if self._team.shard.rank == 0 else None)
        if name is None:
            return None
        folder = self._folder / name
        index = _read_index(folder)
        self._check_belongs(folder, index)
        own = _load(folder / _file_name(self._team.shard))
        shared = own if self._team.shard.rank == 0 else _load(folder / _file_name(Shard()))
        return SavedState(step=index.step, own=own["own"], shared=shared["shared"])

    def _complete(self, partial: Path, final: Path, step: int) -> None:
        num_ranks = self._team.shard.num_ranks
        # By name: a listing of a shared folder may not show yet what other nodes have just written.
        names = [_file_name(Shard(rank=rank, num_ranks=num_ranks)) for rank in range(num_ranks)]
        digests = {name: digest_of_file(partial / name) for name in names}
        index = CheckpointIndex(trial_identity=self._identity, step=step, num_ranks=num_ranks, digests=digests)
        write_text_atomically(partial / "complete.json", index.to_json())
        if final.exists():
            shutil.rmtree(final)
        partial.replace(final)
        sync_folder(self._folder)
        for outdated in _complete_folders(self._folder)[_NUM_KEPT:]:
            shutil.rmtree(outdated)

    def _check_belongs(self, folder: Path, index: CheckpointIndex) -> None:
        if index.trial_identity != self._identity:
            raise ResultsError(
                "the checkpoint belongs to a trial with another configuration",
                where=str(folder),
                hint="restore the configuration of run.json, or move the trial folder away",
            )
        if index.num_ranks != self._team.shard.num_ranks:
            raise ResultsError(
                f"the checkpoint was written by {index.num_ranks} ranks, not {self._team.shard.num_ranks}",
                where=str(folder),
                hint=f"resume with {index.num_ranks} ranks, or move the trial folder away",
            )


def read_weights(folder: Path, warn: Callable[[str], None]) -> SavedState | None:
    """Return what rank 0 saved in a trial's newest readable checkpoint, whoever wrote it; ``None`` if there is none.

    For looking at a trial, not for continuing it: other ranks' running statistics and states are left where they are.
    """
    name = _newest_readable(folder, warn)
    if name is None:
        return None
    state = _load(folder / name / _file_name(Shard()))
    return SavedState(step=_read_index(folder / name).step, own=state["own"], shared=state["shared"])


def _complete_folders(folder: Path) -> list[Path]:
    """Return the folders of complete checkpoints, newest first."""
    if not folder.exists():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _newest_readable(folder: Path, warn: Callable[[str], None]) -> str | None:
    for checkpoint in _complete_folders(folder):
        if problem := _damage(checkpoint):
            warn(f"checkpoint {checkpoint.name} is damaged ({problem}): going on from the one before it")
            continue
        return checkpoint.name
    return None


def _load(path: Path) -> StateDict:
    state: StateDict = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _file_name(shard: Shard) -> str:
    return f"rank_{shard.rank}.pt"


def _read_index(folder: Path) -> CheckpointIndex:
    path = folder / "complete.json"
    return CheckpointIndex.from_json(path.read_bytes(), where=str(path), error=ResultsError)


def _damage(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint's bytes, or ``None``."""
    try:
        index = _read_index(folder)
    except (OSError, ResultsError) as problem:
        return str(problem).splitlines()[0]
    for name, expected in index.digests.items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if digest_of_file(path) != expected:
            return f"{name} does not match its digest"
    return None


def plain(value: Any) -> Any:  # noqa: ANN401 - a tree of plain data
    """Return the tree with its tensors on the CPU and its tuples as lists: what a checkpoint stores."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
