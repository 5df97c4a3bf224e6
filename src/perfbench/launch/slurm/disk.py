"""How much disk a sweep may need: records by the clock, checkpoints as large as those that are already there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perfbench.launch.slurm.arrays import ArrayPlan
from perfbench.spec.run import SlurmCluster

_RECORD_BYTES_PER_S = 400
"""Two pulses a second, and what evaluations add."""
_NUM_CHECKPOINTS = 3
"""Two are kept while the next is written."""


def disk_bytes_at_most(arrays: Sequence[ArrayPlan], cluster: SlurmCluster, runs_root: Path) -> int:
    """Return the bytes that records and checkpoints may take.

    A checkpoint's size is known once a trial of the same submission and workload has written one; before, only
    records are counted.
    """
    total = 0
    for array in arrays:
        num_trials = len(array.trials)
        total += num_trials * array.time_limit_min * 60 * _RECORD_BYTES_PER_S
        num_keeping = num_trials if cluster.keep_checkpoints else min(num_trials, cluster.array_parallelism)
        total += num_keeping * _NUM_CHECKPOINTS * largest_checkpoint_bytes(array, runs_root)
    return total


def largest_checkpoint_bytes(array: ArrayPlan, runs_root: Path) -> int:
    """Return the size of the largest checkpoint of this submission on this workload; 0 if there is none."""
    submission, workload = array.trials[0].submission.name, array.trials[0].workload.name
    found = (runs_root / submission).glob(f"study_*/{workload}/trial_*/states/step_*")
    return max((_size_bytes(folder) for folder in found), default=0)


def _size_bytes(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except FileNotFoundError:  # its trial runs, and has just removed it for a newer one
        return 0
