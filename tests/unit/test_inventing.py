"""Invented batches: made without any data, at full scale too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from perfbench.api.contracts.tiny_problems import BATCH_SIZE, TINY_PROBLEMS, TinyProblem
from perfbench.api.workload import Workload
from perfbench.compose import compose_workload
from perfbench.config_files import choices
from perfbench.data.inventing import Inventor
from perfbench.errors import DataError, WorkloadError
from perfbench.registry import build_workload
from perfbench.spec.workload import ScaleName, Split

KINDS = (None, *Split)


def without_data(name: str) -> Workload:
    return build_workload(compose_workload(name, scale=ScaleName.FULL.value), Path("/nonexistent"))


@pytest.mark.slow
@pytest.mark.parametrize("name", choices("workload"))
def test_every_full_size_workload_invents_batches_where_there_is_no_data(name: str) -> None:
    workload = without_data(name)
    num_ranks = 8

    for split in KINDS:
        size = workload.spec.reference_batch_size // num_ranks
        batch = workload.synthetic_batch(batch_size=size, seed=0, split=split, num_ranks=num_ranks)

        assert all(bool(tensor.isfinite().all()) and bool(tensor.any()) for tensor in batch.values())
        assert len({len(tensor) for tensor in batch.values()}) <= 2  # packs, and graphs in them


def test_ranks_that_cannot_share_the_packs_are_refused() -> None:
    workload = without_data("ogbg")

    with pytest.raises(WorkloadError, match="3 ranks cannot share 8 packs"):
        workload.synthetic_batch(batch_size=64, seed=0, num_ranks=3)
    with pytest.raises(DataError, match="a batch of 4 graphs cannot be cut into 8 equal packs"):
        workload.synthetic_batch(batch_size=1, seed=0, num_ranks=4)


def test_a_part_that_cannot_share_batch_statistics_is_refused_in_training_only() -> None:
    workload = without_data("librispeech_conformer")

    with pytest.raises(WorkloadError, match="3 examples on each rank are no multiple of the 32"):
        workload.synthetic_batch(batch_size=3, seed=0)
    assert len(workload.synthetic_batch(batch_size=3, seed=0, split=Split.TEST)["weights"]) == 3


def test_a_few_ids_are_common_and_most_are_rare() -> None:
    ids = Inventor(0, None).ranks(1000, 20_000).numpy()

    counts = np.bincount(ids, minlength=1000)
    assert counts.shape == (1000,)
    assert counts[:10].sum() > 5_000
    assert 0 < counts[500:].sum() < 5_000


def test_splits_and_seeds_draw_other_values() -> None:
    drawn = {tuple(Inventor(seed, split).normal(3).tolist()) for seed in (0, 1) for split in KINDS}

    assert len(drawn) == 8


@pytest.mark.parametrize("problem", TINY_PROBLEMS, ids=lambda problem: problem.name)
def test_tiny_problems_invent_batches_of_any_size(problem: TinyProblem) -> None:
    real, invented = problem.batch(0), problem.synthetic_batch(batch_size=BATCH_SIZE + 3, seed=5)
    again = problem.synthetic_batch(batch_size=BATCH_SIZE + 3, seed=5)

    assert list(invented) == list(real)
    for name, tensor in invented.items():
        assert (tensor.dtype, tensor.shape[1:]) == (real[name].dtype, real[name].shape[1:])
        assert len(tensor) == BATCH_SIZE + 3
        assert torch.equal(tensor, again[name])
