"""The same bits for any number of processes and ranks, in training and in evaluation."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from perfbench.api.workload import Batch, Shard
from perfbench.data.images import loading, packing
from perfbench.data.images.loading import Augmentation, ImageLoader
from perfbench.data.images.transforms import decoded, eval_view
from perfbench.errors import DataError, WorkloadError
from perfbench.spec.workload import Split
from tests import small_images

BATCH_SIZE = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, prepared = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("prepared")
    small_images.write_folders(source)
    packing.prepare(small_images.request(source, prepared), small_images.params_of(), {})
    return prepared


def loader_of(folder: Path, *, processes: int = 0, mixup: float = 0.2) -> ImageLoader:
    augmentation = Augmentation(num_operations=2, mixup_alpha=mixup)
    params = small_images.params_of(loader_processes=processes)
    return ImageLoader(folder, params, augmentation, prepare_command="perfbench data prepare x")


def train(loader: ImageLoader, count: int, shard: Shard = Shard(), start: int = 0, seed: int = 1) -> list[Batch]:  # noqa: B008
    stream = loader.train_batches(global_batch_size=BATCH_SIZE, seed=seed, shard=shard)
    stream.load_state_dict({"num_returned": start})
    batches = list(itertools.islice(stream, count))
    stream.close()
    return batches


def evaluation(loader: ImageLoader, split: Split, *, size: int = 10, ranks: int = 1) -> Iterator[Batch]:
    for rank in range(ranks):
        yield from loader.eval_batches(split, global_batch_size=size, seed=1, shard=Shard(rank=rank, num_ranks=ranks))


def equal(first: list[Batch], second: list[Batch]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)


def joined(parts: list[list[Batch]]) -> list[Batch]:
    return [
        {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        for batches in zip(*parts, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 3])
def test_processes_change_no_bit(folder: Path, processes: int) -> None:
    alone, pool = loader_of(folder), loader_of(folder, processes=processes)
    try:
        assert equal(train(alone, 6), train(pool, 6))
        for split in Split:
            assert equal(list(evaluation(alone, split)), list(evaluation(pool, split)))
    finally:
        pool.close()


def test_only_a_process_of_the_pool_may_change_its_number_of_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with pytest.raises(AssertionError, match="only a process of the pool"):
            loading._start_process(None)  # type: ignore[arg-type]  # never read

        assert torch.get_num_threads() == before + 1
        assert loading._views is None
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_make_one_batch_with_the_partners_of_the_whole(folder: Path, num_ranks: int) -> None:
    loader = loader_of(folder)
    whole = train(loader, 5)

    parts = [train(loader, 5, Shard(rank=rank, num_ranks=num_ranks)) for rank in range(num_ranks)]

    assert equal(whole, joined(parts))
    for batch in whole:
        assert torch.equal(batch["partners"], batch["inputs"].roll(1, dims=0))
        assert torch.equal(batch["partner_targets"], batch["targets"].roll(1))


def test_a_stream_continues_and_epochs_differ(folder: Path) -> None:
    loader = loader_of(folder)
    whole = train(loader, 9)

    assert equal(whole[5:], train(loader, 4, start=5))
    assert not equal(whole[:1], train(loader, 1, seed=2))
    stream = loader.train_batches(global_batch_size=BATCH_SIZE, seed=1, shard=Shard())
    epochs = [np.concatenate([stream.example_ids(4 * epoch + index) for index in range(4)]) for epoch in (0, 1)]
    stream.close()
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(48))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()


def test_mix_weights_are_one_per_global_batch_and_follow_a_beta_distribution(folder: Path) -> None:
    loader = loader_of(folder)
    drawn = np.array([loader.mix_weight(1, index) for index in range(20_000)])

    assert all(len(set(batch["mix_weights"].tolist())) == 1 for batch in train(loader, 3))
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(drawn.var()) == pytest.approx(0.1786, abs=0.006)
    assert float(((drawn < 0.1) | (drawn > 0.9)).mean()) == pytest.approx(0.675, abs=0.02)


def test_without_mixup_there_are_no_partners(folder: Path) -> None:
    assert set(train(loader_of(folder, mixup=0.0), 1)[0]) == {"inputs", "targets", "weights"}


@pytest.mark.parametrize("split", list(Split))
@pytest.mark.parametrize(("size", "ranks"), [(10, 1), (24, 1), (10, 2), (9, 3)])
def test_evaluation_has_every_example_once_and_padding_weighs_nothing(
    folder: Path, split: Split, size: int, ranks: int
) -> None:
    loader = loader_of(folder)
    batches = list(evaluation(loader, split, size=size, ranks=ranks))

    assert {batch["inputs"].shape for batch in batches} == {(size // ranks, 3, 32, 32)}
    kept = {
        image.numpy().tobytes()
        for batch in batches
        for image, weight in zip(batch["inputs"], batch["weights"], strict=True)
        if weight
    }
    assert len(kept) == sum(int(batch["weights"].sum()) for batch in batches) == loader.num_examples(split)
    reference = next(evaluation(loader, split, size=48))
    assert kept == {image.numpy().tobytes() for image in reference["inputs"][: loader.num_examples(split)]}


def test_an_evaluated_image_is_the_plain_view_of_its_file(folder: Path) -> None:
    batch = next(evaluation(loader_of(folder), Split.TEST))

    oracle = eval_view(decoded(small_images.jpeg(3, 99)), resize_side=36, crop_side=32)

    position = batch["targets"].tolist().index(3)
    assert torch.equal(batch["inputs"][position], oracle)


def test_too_little_shared_memory_is_named_before_a_process_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    message = r"/dev/shm: batches of 13 images need 0 MB of shared memory on each rank, 0 MB are free\n  hint: give the"

    with pytest.raises(WorkloadError, match=message):
        loader_of(folder, processes=1).train_batches(global_batch_size=BATCH_SIZE, seed=1, shard=Shard())
    with pytest.raises(WorkloadError, match="need"):
        next(iter(evaluation(loader_of(folder, processes=1), Split.VALIDATION, size=12)))
    assert len(train(loader_of(folder, processes=0), 1)) == 1


def test_an_image_that_cannot_be_decoded_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    pack = tmp_path / "data" / f"train.{small_images.WNIDS[0]}.pack"
    pack.write_bytes(bytes(pack.stat().st_size))

    with pytest.raises(DataError, match=rf"train.{small_images.WNIDS[0]}.pack, {small_images.WNIDS[0]}_0.JPEG: cannot"):
        loader_of(tmp_path / "data").batch("train", np.array([0]), 1, None)
