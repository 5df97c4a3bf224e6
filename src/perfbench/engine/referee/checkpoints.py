"""Checkpoints: trainers write their states, the referee counts them, and only its own index says what they are worth.

Layout: ``states/step_<n>/rank_<r>.pt``, written by the trainers, and ``checkpoints/step_<n>.json``, the index: digests
of these files, and everything that a trainer must not be asked for, such as the time. A checkpoint is complete when its
index is there; states without one are what a crash left, and are removed by the next save.
"""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pydantic import Field

from perfbench.api.workload import Shard
from perfbench.engine.referee.link import TrainerEnded
from perfbench.engine.wire.state_files import state_file
from perfbench.engine.wire.team import Team
from perfbench.errors import ResultsError
from perfbench.results.files import digest_of_file, remove, write_text_atomically
from perfbench.spec.base import Spec
from perfbench.spec.result import Measurement, PhaseTimes

_NAME = re.compile(r"step_(\d+)\.json")
_BYTES_PER_BLOCK = 512
"""Of what the system calls a block when it tells the size of a file."""
_NUM_KEPT = 2
"""The newest may turn out unreadable; the one before it gives the same trajectory."""


class Progress(Spec):
    """What the referee knows of a trial at a step: it is the same on every rank."""

    step: int = 0
    submission_time_s: float = 0.0
    charged_s: float = 0.0
    """Of it, what was charged for work at rest."""
    start_s: float | None = None
    """What importing and building the submission cost when the trial began; a resume pays only what exceeds it."""
    since_evaluation_s: float = 0.0
    measurements: tuple[Measurement, ...] = ()


class CheckpointIndex(Spec):
    """What a complete checkpoint holds."""

    schema_version: int = 2
    trial_identity: str
    num_ranks: int
    progress: Progress
    phases: tuple[PhaseTimes, ...]
    """By rank."""
    digests: dict[str, str] = Field(min_length=1)
    """By file name."""


class Checkpoints:
    """The checkpoints of one trial.

    Args:
        indices: Folder of the indices: no trainer writes there.
        states: Folder of the trainers' states.
        trial_identity: Checkpoints of another configuration are refused.
        team: All ranks' referees.
        most_bytes: Of a rank's state, as the submission declares it.
    """

    def __init__(
        self, indices: Path, states: Path, *, trial_identity: str, team: Team, most_bytes: int = sys.maxsize
    ) -> None:
        self._indices = indices
        self._states = states
        self._identity = trial_identity
        self._team = team
        self._most_bytes = most_bytes

    def state_folder(self, step: int) -> Path:
        """Return where the trainers put what they save at a step."""
        return self._states / f"step_{step:09d}"

    def prepare(self, step: int) -> Path:
        """Make an empty folder for the states of a step, and remove what no index names."""
        folder = self.state_folder(step)
        if self._team.shard.rank == 0:
            self.remove_unnamed()
            remove(folder)
            folder.mkdir(parents=True)
        self._team.barrier()
        return folder

    def num_bytes(self, step: int) -> int:
        """Return how much this rank's trainer had to write at a step: what is on the disk, no more than is declared.

        Raises:
            TrainerEnded: If it has written no plain file.
        """
        path = state_file(self.state_folder(step), self._team.shard)
        try:
            status = path.lstat()
        except OSError:
            raise TrainerEnded(f"the trainer says that it has saved its state, but not in {path.name}") from None
        if not stat.S_ISREG(status.st_mode):
            raise TrainerEnded(f"what the trainer has saved as {path.name} is no plain file")
        return min(status.st_size, status.st_blocks * _BYTES_PER_BLOCK, self._most_bytes)

    def complete(self, progress: Progress, phases: PhaseTimes) -> None:
        """Index what all trainers have written; when this returns, the checkpoint survives any crash."""
        path = state_file(self.state_folder(progress.step), self._team.shard)
        digests = self._team.texts(digest_of_file(path))
        phases_of_ranks = self._team.texts(phases.to_json(indent=None))
        if self._team.shard.rank == 0:
            num_ranks = self._team.shard.num_ranks
            # By number: a listing of a shared folder may not show yet what other nodes have just written.
            names = [state_file(path.parent, Shard(rank=rank)).name for rank in range(num_ranks)]
            index = CheckpointIndex(
                trial_identity=self._identity,
                num_ranks=num_ranks,
                progress=progress,
                phases=tuple(PhaseTimes.from_json(text) for text in phases_of_ranks),
                digests=dict(zip(names, digests, strict=True)),
            )
            self._indices.mkdir(parents=True, exist_ok=True)
            write_text_atomically(self._indices / f"step_{progress.step:09d}.json", index.to_json())
            for outdated in _newest_first(self._indices)[_NUM_KEPT:]:
                outdated.unlink()
            self.remove_unnamed()
        self._team.barrier()

    def latest(self, warn: Callable[[str], None]) -> CheckpointIndex | None:
        """Return the newest checkpoint whose states are as they were written, ``None`` if there is none.

        Args:
            warn: Told about a damaged checkpoint that is passed over for an older one.

        Raises:
            ResultsError: If a checkpoint belongs to another configuration or number of ranks.
        """
        found = _newest_readable(self._indices, self._states, warn) if self._team.shard.rank == 0 else None
        text = self._team.texts("" if found is None else found.to_json(indent=None))[0]
        if not text:
            return None
        index = CheckpointIndex.from_json(text, error=ResultsError)
        self._check_belongs(index)
        return index

    def keep_only(self, index: CheckpointIndex | None) -> None:
        """Remove all but what an index names: a trainer finds nothing that an attempt has left besides its state."""
        if self._team.shard.rank == 0:
            kept = None if index is None else f"step_{index.progress.step:09d}"
            for path in _newest_first(self._indices):
                if path.stem != kept:
                    path.unlink()
            self.remove_unnamed()
            if index is not None:
                _remove_all(self._states / str(kept), but=index.digests)
        self._team.barrier()

    def remove_unnamed(self) -> None:
        """Remove states that no index names; rank 0 does."""
        if self._team.shard.rank == 0:
            _remove_all(self._states, but={path.stem for path in _newest_first(self._indices)})

    def _check_belongs(self, index: CheckpointIndex) -> None:
        if index.trial_identity != self._identity:
            raise ResultsError(
                "the checkpoint belongs to a trial with another configuration",
                where=str(self._indices),
                hint="restore the configuration of run.json, or move the trial folder away",
            )
        if index.num_ranks != self._team.shard.num_ranks:
            raise ResultsError(
                f"the checkpoint was written by {index.num_ranks} ranks, not {self._team.shard.num_ranks}",
                where=str(self._indices),
                hint=f"resume with {index.num_ranks} ranks, or move the trial folder away",
            )


def _remove_all(folder: Path, *, but: Collection[str]) -> None:
    """Remove what is in a folder, except for some names."""
    for path in folder.glob("*"):
        if path.name not in but:
            remove(path)


def read_weights(indices: Path, states: Path, warn: Callable[[str], None]) -> tuple[int, dict[str, Any]] | None:
    """Return step and rank 0's state of a trial's newest readable checkpoint, whoever wrote it; ``None`` without one.

    For looking at a trial, not for continuing it: other ranks' running statistics and states are left where they are.
    """
    import torch

    index = _newest_readable(indices, states, warn)
    if index is None:
        return None
    path = state_file(states / f"step_{index.progress.step:09d}", Shard())
    return index.progress.step, torch.load(path, map_location="cpu", weights_only=True)


def _newest_first(indices: Path) -> list[Path]:
    found = [path for path in indices.glob("step_*.json") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _newest_readable(indices: Path, states: Path, warn: Callable[[str], None]) -> CheckpointIndex | None:
    for path in _newest_first(indices):
        try:
            index = CheckpointIndex.from_json(path.read_bytes(), where=str(path), error=ResultsError)
            problem = _damage(states / path.stem, index)
        except (OSError, ResultsError) as error:
            problem = str(error).splitlines()[0]
        if problem is None:
            return index
        warn(f"checkpoint {path.stem} is damaged ({problem}): going on from the one before it")
    return None


def _damage(folder: Path, index: CheckpointIndex) -> str | None:
    """Say what is wrong with a checkpoint's states, or ``None``."""
    for name, expected in index.digests.items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if digest_of_file(path) != expected:
            return f"{name} does not match its digest"
    return None
