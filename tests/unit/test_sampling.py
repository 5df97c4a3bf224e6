from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfbench.api.workload import Shard
from perfbench.data.sampling import BatchOrder, UnitOrder, evaluation_ranges, padded_part
from perfbench.errors import WorkloadError

file_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(sizes=file_sizes, seed=st.integers(0, 2**62), epoch=st.integers(0, 3), block_rows=st.integers(1, 9))
def test_an_epoch_holds_every_row_once(sizes: list[int], seed: int, epoch: int, block_rows: int) -> None:
    total = sum(sizes)

    for units in (
        UnitOrder.of_files(sizes, seed=seed),
        UnitOrder.of_blocks(sizes, block_rows=block_rows, seed=seed),
    ):
        rows = [row for r in units.ranges(epoch, 0, total) for row in range(r.first, r.first + r.count)]
        assert sorted(rows) == list(range(total))


@given(sizes=file_sizes, seed=st.integers(0, 2**62), data=st.data())
@settings(max_examples=60)
def test_ranks_together_read_the_single_rank_stream_in_order(sizes: list[int], seed: int, data: st.DataObject) -> None:
    num_ranks = data.draw(st.integers(1, 4))
    per_rank = data.draw(st.integers(1, max(1, sum(sizes) // num_ranks)))
    batch_size = num_ranks * per_rank
    if batch_size > sum(sizes):
        return
    units = UnitOrder.of_blocks(sizes, block_rows=3, seed=seed)
    single = BatchOrder(units, global_batch_size=batch_size, shard=Shard())
    parts = [
        BatchOrder(units, global_batch_size=batch_size, shard=Shard(rank=rank, num_ranks=num_ranks))
        for rank in range(num_ranks)
    ]

    for index in range(2 * single.batches_per_epoch + 1):
        joined = np.concatenate([part.example_ids(index) for part in parts])
        assert joined.tolist() == single.example_ids(index).tolist()


def test_files_keep_their_rows_in_sequence() -> None:
    ranges = UnitOrder.of_files([10, 20, 30], seed=1).ranges(0, 0, 60)

    assert sorted((r.first, r.count) for r in ranges) == [(0, 10), (10, 20), (30, 30)]


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        units = UnitOrder.of_blocks([100], block_rows=1, seed=seed)
        return [r.first for r in units.ranges(epoch, 0, 100)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


@given(num_examples=st.integers(1, 200), per_rank=st.integers(1, 17), num_ranks=st.integers(1, 5))
def test_padded_parts_cover_every_example_once_with_equal_numbers_of_batches(
    num_examples: int, per_rank: int, num_ranks: int
) -> None:
    parts = [
        padded_part(num_examples, global_batch_size=per_rank * num_ranks, shard=Shard(rank=rank, num_ranks=num_ranks))
        for rank in range(num_ranks)
    ]

    covered = [row for part in parts for first, count in part for row in range(first, first + count)]
    assert sorted(covered) == list(range(num_examples))
    assert len({len(part) for part in parts}) == 1


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_evaluation_reads_the_first_examples_of_an_order_over_ranks_and_batches(*, is_shuffled: bool) -> None:
    order = UnitOrder([3, 5, 2, 7, 4], seed=1) if is_shuffled else None
    per_rank = [
        list(evaluation_ranges(13, order, global_batch_size=6, shard=Shard(rank=rank, num_ranks=2)))
        for rank in range(2)
    ]

    read = [
        row
        for batch in zip(*per_rank, strict=True)
        for ranges in batch
        for block in ranges
        for row in range(block.first, block.first + block.count)
    ]

    expected = list(range(13)) if order is None else order.first_rows(13).tolist()
    assert read == expected
    assert [len(batches) for batches in per_rank] == [3, 3]


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(WorkloadError, match="batch size: a batch of 6 needs more examples than the 5 of an epoch"):
        BatchOrder(UnitOrder.of_files([5], seed=0), global_batch_size=6, shard=Shard())


def test_two_threads_may_ask_for_different_epochs() -> None:
    order = UnitOrder([3, 5, 2, 7, 4], seed=1)
    expected = [UnitOrder([3, 5, 2, 7, 4], seed=1).ranges(epoch, 0, 21) for epoch in range(2)]

    with ThreadPoolExecutor(2) as threads:
        asked = list(threads.map(lambda number: order.ranges(number % 2, 0, 21), range(2000)))

    assert asked == [expected[number % 2] for number in range(2000)]
